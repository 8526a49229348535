from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sagelight.config.compose import compose
from sagelight.config.setting import lookup
from sagelight.errors import RunError
from sagelight.tuning.proposals import DATABASE, Proposals
from sagelight.tuning.study import Study, read_study

SPACE = [
    "optimizer.lr=tag(log,interval(0.001,0.1))",
    "model.dropout=interval(0.0,0.5)",
    "optimizer.momentum=tag(reverse_log,interval(0.5,0.999))",
    "trainer.max_epochs=range(2,6)",
    "data.batch_size=tag(log,range(4,65))",
    "data.sampler=shuffle,balanced",
    "trainer.limit_train_batches=null,3",
    "augment=none,light",
]
GRID = ["hpo.strategy=grid", "optimizer.lr=0.1,0.2", "trainer.max_epochs=range(1,4)"]
PHOTOS = "of these photos"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def study(*words: str) -> Study:
    return read_study(["-m", "experiment=resnet18", "data.root=photos", *words])


def opened(of: Study, folder: str = ".", photos: str = PHOTOS) -> Proposals:
    Path(folder).mkdir(exist_ok=True)
    return Proposals(of, Path(folder), photos)


def score(values: dict[str, str]) -> float:
    """What a trial comes to: the same for the same values, and best at a learning rate of 0.01."""
    return 1 - abs(math.log10(float(values["optimizer.lr"])) + 2) / 4


def run(proposals: Proposals, count: int) -> list[dict[str, str]]:
    """Ask for trials and end each before the next."""
    found = []
    for _ in range(count):
        proposal = proposals.ask()
        found.append(proposal.values)
        proposals.report(proposal.number, 1, score(proposal.values))
        proposals.complete(proposal.number, score(proposal.values), 1.0)
    return found


@pytest.mark.parametrize(
    "strategy",
    [
        "bayesian",
        pytest.param("hyperband", marks=pytest.mark.slow),
        pytest.param("random", marks=pytest.mark.slow),
    ],
)
def test_values_lie_in_the_space_and_read_back(strategy: str) -> None:
    space = [text for text in SPACE if strategy != "hyperband" or "max_epochs" not in text]
    of = study(*space, f"hpo.strategy={strategy}", "hpo.max_jobs=12")
    found = run(opened(of), 12)
    configs = [compose(of.trial(values)) for values in found]
    for dimension in of.space.dimensions:
        texts = {values[dimension.name] for values in found}
        assert len(texts) > 1
        if hasattr(dimension, "low"):
            assert all(dimension.low <= float(text) <= dimension.high for text in texts)
    assert {c.data.sampler for c in configs} == {"shuffle", "balanced"}
    assert {c.trainer.limit_train_batches for c in configs} == {None, 3}
    assert {c.augment.name for c in configs} == {"none", "light"}
    for values, config in zip(found, configs, strict=True):
        for name in ("optimizer.lr", "model.dropout", "optimizer.momentum"):
            assert lookup(config, name) == float(values[name])
        assert config.data.batch_size == int(values["data.batch_size"])


def test_scales_are_logarithmic_where_they_are_said_to_be() -> None:
    of = study(*SPACE[:3], SPACE[4], "hpo.strategy=random", "hpo.max_jobs=40")
    found = run(opened(of), 40)

    def share(name: str, inside: Callable[[float], bool]) -> float:
        return sum(inside(float(values[name])) for values in found) / len(found)

    assert 0.3 < share("optimizer.lr", lambda lr: lr < 0.01) < 0.7
    assert 0.3 < share("model.dropout", lambda dropout: dropout < 0.25) < 0.7
    # Half of what is left to 1 lies, on a logarithmic scale, below the geometric mean of 0.001 and 0.5.
    assert 0.3 < share("optimizer.momentum", lambda momentum: 1 - momentum < 0.0224) < 0.7
    assert 0.3 < share("data.batch_size", lambda size: size <= 16) < 0.7


def test_values_that_hydra_must_quote_come_back_as_they_were() -> None:
    of = study("run_dir=here", "model.weights='a b.pth','c,d.pth'", "hpo.strategy=grid")
    found = run_all(opened(of))
    weights = {compose(of.trial(values)).model.weights for values in found}
    assert weights == {"a b.pth", "c,d.pth"}


def run_all(proposals: Proposals) -> list[dict[str, str]]:
    found = []
    while proposals.remaining():
        proposal = proposals.ask()
        found.append(proposal.values)
        proposals.complete(proposal.number, 0.5, 1.0)
    return found


def keys(found: list[dict[str, str]]) -> list[tuple[str, ...]]:
    return [tuple(values.values()) for values in found]


def test_a_grid_asks_for_each_combination_once() -> None:
    proposals = opened(study(*GRID, "hpo.max_jobs=2"))
    assert proposals.budget == proposals.remaining() == 6
    found = keys(run_all(proposals))
    assert sorted(found) == [(lr, epochs) for lr in ("0.1", "0.2") for epochs in "123"]
    assert opened(study(*GRID)).remaining() == 0


def test_a_study_survives_a_death_while_its_database_is_laid_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    def dies(*words: Any, **settings: Any) -> None:
        # A kill between Optuna's tables leaves such a file.
        with sqlite3.connect(str(settings["storage"].engine.url.database)) as database:
            database.execute("DROP TABLE version_info")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(optuna, "create_study", dies)
        with pytest.raises(KeyboardInterrupt):
            opened(study(*SPACE))
    assert run(opened(study(*SPACE)), 1)


def test_a_grid_survives_a_death_while_a_combination_is_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    enqueue = optuna.Study.enqueue_trial

    def dying(self: optuna.Study, *arguments: Any, **more: Any) -> None:
        enqueue(self, *arguments, **more)
        raise KeyboardInterrupt

    proposals = opened(study(*GRID))
    finished = keys(run(proposals, 2))
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", dying)
        with pytest.raises(KeyboardInterrupt):
            proposals.ask()
    found = finished + keys(run_all(opened(study(*GRID))))
    assert sorted(found) == [(lr, epochs) for lr in ("0.1", "0.2") for epochs in "123"]


def test_a_grid_survives_a_death_while_a_lost_trial_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    proposals = opened(study(*GRID))
    finished = keys(run(proposals, 1))
    proposals.ask()

    def dying(self: optuna.Study, *arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", dying)
        with pytest.raises(KeyboardInterrupt):
            opened(study(*GRID))
    found = finished + keys(run_all(opened(study(*GRID))))
    assert sorted(found) == [(lr, epochs) for lr in ("0.1", "0.2") for epochs in "123"]


def test_a_grid_survives_a_death_while_a_trial_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    def dying(self: optuna.Trial, *arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    finished = keys(run(opened(study(*GRID)), 1))
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "_suggest", dying)
        with pytest.raises(KeyboardInterrupt):
            opened(study(*GRID)).ask()
    found = finished + keys(run_all(opened(study(*GRID))))
    assert sorted(found) == [(lr, epochs) for lr in ("0.1", "0.2") for epochs in "123"]


def test_a_death_while_lost_trials_are_put_back_draws_no_values_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    of = study(SPACE[0], "hpo.strategy=random", "hpo.max_jobs=6")
    whole = run(opened(of, "whole"), 6)
    proposals = opened(of)
    for _ in range(5):
        proposals.ask()
    enqueue, calls = optuna.Study.enqueue_trial, 0

    def dying(self: optuna.Study, *arguments: Any, **more: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        enqueue(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", dying)
        with pytest.raises(KeyboardInterrupt):
            opened(of)
    found = run_all(opened(of))
    assert sorted(keys(found)) == sorted(keys(whole))


@pytest.mark.parametrize("strategy", ["bayesian", pytest.param("random", marks=pytest.mark.slow)])
def test_the_same_seed_asks_the_same_however_often_it_is_opened(strategy: str) -> None:
    space = [SPACE[0], SPACE[5]]
    of = study(*space, f"hpo.strategy={strategy}", "hpo.max_jobs=14")
    whole = run(opened(of, "whole"), 14)
    broken: list[dict[str, str]] = []
    for _ in range(7):
        broken += run(opened(of, "broken"), 2)
    assert broken == whole
    other = study(*space, f"hpo.strategy={strategy}", "hpo.max_jobs=14", "seed=1")
    assert run(opened(other, "other"), 3) != whole[:3]


def test_what_a_dead_process_was_trying_is_tried_again_under_the_same_values() -> None:
    of = study(*SPACE, "hpo.strategy=random", "hpo.max_jobs=6")
    whole = run(opened(of, "whole"), 6)

    proposals = opened(of)
    done = run(proposals, 2)
    lost = [proposals.ask(), proposals.ask()]
    proposals.report(lost[0].number, 1, 0.9)
    for _ in range(2):
        proposals = opened(of)
        assert [trial.state for trial in proposals.trials()] == ["Completed", "Completed"]
        assert proposals.remaining() == 4
        again = [proposals.ask(), proposals.ask()]
        assert [proposal.values for proposal in again] == [proposal.values for proposal in lost]
        assert proposals.remaining() == 2
    for proposal in again:
        proposals.complete(proposal.number, 0.5, 1.0)
    found = [*done, *(proposal.values for proposal in again), *run(opened(of), 2)]
    assert found == whole
    trials = opened(of).trials()
    assert [trial.values for trial in trials] == whole
    assert opened(of).remaining() == 0


def test_what_came_of_each_trial_is_kept() -> None:
    of = study(SPACE[0], "hpo.strategy=random")
    proposals = opened(of)
    assert proposals.maximize
    numbers = [proposals.ask().number for _ in range(4)]
    for number in numbers:
        proposals.report(number, 1, 0.25)
        proposals.report(number, 2, 0.5)
    # Told again after a restart of its process.
    proposals.report(numbers[0], 1, 0.25)
    proposals.complete(numbers[0], 0.5, 3.5)
    proposals.stop(numbers[1], 2.0)
    proposals.fail(numbers[2], "no memory", 1.0)
    expected = [
        ("Completed", 0.5, 3.5, (0.25, 0.5), ""),
        ("Stopped", 0.5, 2.0, (0.25, 0.5), ""),
        ("Failed", 0.5, 1.0, (0.25, 0.5), "no memory"),
    ]
    for found in (proposals.trials(), opened(of).trials()):
        assert [(t.state, t.objective, t.seconds, t.curve, t.reason) for t in found[:3]] == expected
    assert [trial.state for trial in proposals.trials()] == ["Completed", "Stopped", "Failed"]


def test_what_is_kept_is_whole_after_every_trial_and_goes_on_elsewhere() -> None:
    of, kept = study(*SPACE, "hpo.strategy=random", "hpo.max_jobs=4"), Path(DATABASE)
    first = Proposals(of, Path(), PHOTOS, Path("machine"))
    assert not kept.exists()
    run(first, 2)
    saved = kept.read_bytes()
    # What runs is not copied, and what copies the folder sees no half of a write.
    first.ask()
    assert kept.read_bytes() == saved
    on = Proposals(of, Path(), PHOTOS, Path("another machine"))
    assert [trial.values for trial in on.trials()] == [
        trial.values for trial in first.trials() if trial.state == "Completed"
    ]
    run(on, 2)
    assert [trial.state for trial in on.trials()] == ["Completed"] * 4
    assert [t.values for t in opened(of).trials()] == [t.values for t in on.trials()]


def test_losses_are_minimized() -> None:
    proposals = opened(study(SPACE[0], "hpo.metric=val/loss"))
    assert not proposals.maximize
    number = proposals.ask().number
    proposals.report(number, 1, 0.5)
    proposals.report(number, 2, 0.25)
    proposals.stop(number, 1.0)
    assert proposals.trials()[0].objective == 0.25


def test_more_jobs_go_on_and_fewer_end() -> None:
    run(opened(study(SPACE[0], "hpo.max_jobs=3")), 3)
    assert opened(study(SPACE[0], "hpo.max_jobs=3")).remaining() == 0
    assert opened(study(SPACE[0], "hpo.max_jobs=5", "hpo.target=0.9")).remaining() == 2
    assert opened(study(SPACE[0], "hpo.max_jobs=2")).remaining() == 0


@pytest.mark.parametrize(
    ("words", "photos"),
    [
        ([SPACE[0], SPACE[1]], PHOTOS),
        (["optimizer.lr=tag(log,interval(0.001,0.2))"], PHOTOS),
        (["optimizer.lr=interval(0.001,0.1)"], PHOTOS),
        ([SPACE[0], "model.dropout=0.5"], PHOTOS),
        ([SPACE[0], "hpo.strategy=random"], PHOTOS),
        ([SPACE[0], "hpo.metric=val/loss"], PHOTOS),
        ([SPACE[0], "seed=1"], PHOTOS),
        ([SPACE[0]], "of other photos"),
    ],
)
def test_another_study_in_the_same_file_is_refused(words: list[str], photos: str) -> None:
    done = run(opened(study(SPACE[0])), 1)
    with pytest.raises(RunError, match=r"is a study of another space.*Type another run_dir"):
        opened(study(*words), photos=photos)
    assert [trial.values for trial in opened(study(SPACE[0])).trials()] == done


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run(opened(study(SPACE[0])), 1)
    with monkeypatch.context() as patch:
        patch.setattr("sagelight.tuning.proposals.FORMAT", 99)
        with pytest.raises(RunError, match="or of another version"):
            opened(study(SPACE[0]))
    assert len(opened(study(SPACE[0])).trials()) == 1


def somebody_elses(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("create table studies (name text)")
    connection.close()


@pytest.mark.parametrize(
    "leave",
    [lambda path: path.write_bytes(b"my holiday photos" * 100), somebody_elses],
    ids=["no database", "another database"],
)
def test_what_is_no_study_is_refused_and_left_alone(leave: Callable[[Path], object]) -> None:
    path = Path(DATABASE)
    leave(path)
    content = path.read_bytes()
    with pytest.raises(RunError, match=r"is no study that can be read.*Type another run_dir"):
        opened(study(SPACE[0]))
    assert path.read_bytes() == content


def test_a_folder_whose_database_cannot_be_written_is_refused() -> None:
    Path(DATABASE).mkdir()
    with pytest.raises(RunError, match="is no study that can be read"):
        opened(study(SPACE[0]))


def test_without_optuna_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunError) as refusal:
        opened(study(SPACE[0]))
    assert str(refusal.value) == (
        "optuna is not installed, and studies on this machine need it. Type pip install 'sagelight[hpo]'."
    )
    assert not Path(DATABASE).exists()


def test_hyperband_ends_what_is_worse_and_keeps_what_is_better() -> None:
    of = study(SPACE[0], "hpo.strategy=hyperband", "trainer.max_epochs=9", "hpo.max_jobs=20")
    proposals = opened(of)
    epochs = {}
    for place in range(20):
        proposal = proposals.ask()
        stopped = False
        for epoch in range(1, 10):
            # Each trial is worse than the one before.
            stopped = proposals.report(proposal.number, epoch, epoch / 100 - place / 10)
            epochs[place] = epoch
            if stopped:
                break
        if epochs[place] < 9:
            proposals.stop(proposal.number, 1.0)
        else:
            proposals.complete(proposal.number, 9 / 100 - place / 10, 1.0)
    assert epochs[0] == 9
    assert sum(count < 9 for count in epochs.values()) >= 10
    states = [trial.state for trial in proposals.trials()]
    assert states.count("Stopped") == sum(count < 9 for count in epochs.values())


def test_other_strategies_end_no_trial() -> None:
    proposals = opened(study(SPACE[0], "hpo.strategy=random", "trainer.max_epochs=9"))
    for place in range(8):
        number = proposals.ask().number
        assert not any(proposals.report(number, epoch, -float(place)) for epoch in range(1, 10))
        proposals.complete(number, -float(place), 1.0)


@pytest.mark.slow
def test_better_values_are_found_by_looking() -> None:
    """The bayesian search ends nearer to the best learning rate than chance does."""
    means = {}
    for strategy in ("bayesian", "random"):
        of = study(SPACE[0], f"hpo.strategy={strategy}", "hpo.max_jobs=40")
        found = run(opened(of, strategy), 40)
        means[strategy] = sum(score(values) for values in found[20:]) / 20
    assert means["bayesian"] > means["random"]


def test_convergence_is_told_by_a_flat_search_and_not_by_few_trials() -> None:
    of = study(SPACE[0], "hpo.max_jobs=40")
    proposals = opened(of)
    run(proposals, 5)
    assert not proposals.converged()


def test_reading_a_study_loads_no_torch() -> None:
    code = "import sys, sagelight.tuning.proposals; print('torch' in sys.modules, 'optuna' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.split() == ["False", "False"]

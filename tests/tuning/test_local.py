from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from sagelight.data.index import index_images
from sagelight.features import table
from sagelight.training.run import locked
from stories.commands import TINY, read_csv, refused, run

HEADS = ["finetune=head", "augment=none", "callbacks.ema_decay=0"]
# The smallest training that is one: a step an epoch.
WHOLE = ["finetune=full", "callbacks.ema_decay=0", "trainer.limit_train_batches=1"]
RATES = "optimizer.lr=tag(log,interval(0.0005,0.05))"
EPOCHS = "trainer.max_epochs=range(1,4)"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def words(photos: Path, *more: str, folder: str = "study") -> list[str]:
    """A study; its features lie beside it, because its processes may know another test's cache."""
    chosen = {word.partition("=")[0] for word in more} | {"optimizer.lr"}
    small = [word for word in TINY if word.partition("=")[0] not in chosen]
    return [
        *small,
        f"data.root={photos}",
        f"run_dir={folder}",
        f"features.folder={Path('features').resolve()}",
        *more,
        "-m",
    ]


def rows(folder: str = "study") -> list[dict[str, str]]:
    return read_csv(Path(folder, "trials.csv"))


def states(folder: str = "study") -> list[str]:
    return [row["state"] for row in rows(folder)]


def epochs(folder: str = "study") -> dict[str, int]:
    """How many epochs each trial has told, by its name."""
    query = "select number, count(step) from trials left join trial_intermediate_values using (trial_id) group by number"
    connection = sqlite3.connect(Path(folder, "study.db"))
    found = {str(number + 1): int(count) for number, count in connection.execute(query)}
    connection.close()
    return found


def metrics(folder: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(Path(folder, "metrics.json").read_text())
    return found


def test_a_cached_study_runs_the_backbone_once_and_its_best_trial_repeats_exactly(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [*HEADS, RATES, EPOCHS, "model.dropout=0,0.2", "data.batch_size=6,8"]
    assert run(*words(photos, *more, "hpo.max_jobs=7")) == 0
    said = capsys.readouterr()
    assert "36 photos went through the backbone, once for all trials" in said.out
    assert said.err == ""
    first = rows()
    assert [row["state"] for row in first] == ["Completed"] * 7
    assert list(first[0])[:3] == ["trial", "state", "objective"]
    assert {row["trainer.max_epochs"] for row in first} <= {"1", "2", "3"}
    assert {row["trial"]: int(row["trainer.max_epochs"]) for row in first} == epochs()

    assert run(*words(photos, *more, "hpo.max_jobs=7")) == 0
    assert "went through the backbone" not in capsys.readouterr().out
    assert rows() == first

    assert run(*words(photos, *more, "hpo.max_jobs=9")) == 0
    assert "went through the backbone" not in capsys.readouterr().out
    assert rows()[:7] == first
    assert states() == ["Completed"] * 9

    def never(*arguments: object) -> None:
        raise AssertionError("the features are there already")

    monkeypatch.setattr(table, "_forward", never)
    again = ["experiment=study/best.yaml", "run_dir=again"]
    assert run("train", *again, f"features.folder={Path('features').resolve()}") == 0
    best = max(float(row["objective"]) for row in rows())
    # One is written with the digits of float32, the other with those of float64.
    assert metrics("again")["val/accuracy"] == pytest.approx(best, abs=1e-7)


def test_an_uncached_study_trains_each_trial_on_its_own(photos: Path) -> None:
    more = [*WHOLE, RATES, "trainer.max_epochs=1,2", "hpo.max_jobs=3", "hpo.metric=val/loss"]
    assert run(*words(photos, *more)) == 0
    assert states() == ["Completed"] * 3
    assert len({row["objective"] for row in rows()}) == 3
    assert {row["trial"]: int(row["trainer.max_epochs"]) for row in rows()} == epochs()
    assert not list(Path("study/trials").iterdir())
    assert not Path("features").exists()

    assert run("train", "experiment=study/best.yaml", "run_dir=again") == 0
    best = min(float(row["objective"]) for row in rows())
    assert metrics("again")["val/loss"] == pytest.approx(best, abs=1e-5)


@pytest.mark.slow
def test_what_cannot_be_batched_shares_the_cache_all_the_same(photos: Path) -> None:
    more = [*HEADS, "trainer.gradient_clip_val=1", "trainer.max_epochs=1"]
    assert run(*words(photos, *more, RATES, "hpo.max_jobs=3")) == 0
    assert states() == ["Completed"] * 3
    assert len(list(Path("features").glob("*/features.npy"))) == 3


@pytest.mark.slow
def test_trials_of_the_same_values_do_not_meet_in_one_folder(photos: Path) -> None:
    more = [*WHOLE, "trainer.max_epochs=8", "model.dropout=0,0.1", "hpo.strategy=random"]
    assert run(*words(photos, *more, "hpo.max_jobs=4", "hpo.max_parallel_jobs=4")) == 0
    assert states() == ["Completed"] * 4


def test_a_combination_that_is_refused_fails_alone(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*WHOLE[1:], "finetune=full,gradual", "trainer.max_epochs=1,2", "hpo.strategy=grid"]
    assert run(*words(photos, *more)) == 0
    failed = [row for row in rows() if row["state"] == "Failed"]
    assert [(row["finetune"], row["trainer.max_epochs"]) for row in failed] == [("gradual", "1")]
    assert states().count("Completed") == 3
    assert "never unfreezes anything" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["8,64", "64,8"])
def test_a_batch_that_is_too_large_fails_alone(
    photos: Path, sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*HEADS, "trainer.max_epochs=1", f"data.batch_size={sizes}", "hpo.strategy=grid"]
    assert run(*words(photos, *more)) == 0
    found = {row["data.batch_size"]: row["state"] for row in rows()}
    assert found == {"8": "Completed", "64": "Failed"}
    assert "data.batch_size=64 is larger than the 24 training photos" in capsys.readouterr().out


@pytest.mark.slow
def test_a_trial_that_diverges_is_kept_with_its_reason(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*HEADS, "optimizer=sgd", "trainer.max_epochs=3", "hpo.strategy=grid"]
    assert run(*words(photos, *more, "optimizer.lr=1e30,0.001")) == 0
    found = {float(row["optimizer.lr"]): row["state"] for row in rows()}
    assert found == {1e30: "Failed", 0.001: "Completed"}
    assert "diverged" in capsys.readouterr().out
    assert "lr: 0.001" in Path("study/best.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [HEADS, WHOLE], ids=["heads", "fit"])
def test_an_objective_that_is_no_number_is_a_failure_with_a_reason(
    photos: Path, kind: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss of the only step is finite, and the weights after it are not."""
    once = ["optimizer=sgd", "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    more = [*kind, *once, "hpo.metric=val/loss", "hpo.strategy=grid"]
    assert run(*words(photos, *more, "optimizer.lr=1e30,0.001", "schedule=constant")) == 0
    assert {float(row["optimizer.lr"]): row["state"] for row in rows()} == {
        1e30: "Failed",
        0.001: "Completed",
    }
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "Failed  -" in line)
    assert "val/loss" in line or "diverged" in line


def test_a_study_of_failures_ends_with_one_message(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*HEADS, "optimizer=sgd", "trainer.max_epochs=3", "hpo.strategy=grid"]
    message = refused(capsys, *words(photos, *more, "optimizer.lr=1e30,1e29"))
    assert message.startswith("all 2 trials failed; the first said: ")
    assert "study/logs" in message
    assert states() == ["Failed", "Failed"]
    assert not Path("study/best.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["bayesian", "random"])
@pytest.mark.parametrize("criterion", ["hpo.target=0.01", "hpo.patience=3"])
def test_a_study_ends_early_when_its_criterion_is_met(
    photos: Path, strategy: str, criterion: str
) -> None:
    more = [*HEADS, RATES, "trainer.max_epochs=1", f"hpo.strategy={strategy}", criterion]
    assert run(*words(photos, *more, "hpo.max_jobs=20", "hpo.max_parallel_jobs=1")) == 0
    ended = rows()
    assert 1 <= len(ended) < 20
    assert {row["state"] for row in ended} == {"Completed"}

    assert run(*words(photos, *more, "hpo.max_jobs=20", "hpo.max_parallel_jobs=1")) == 0
    assert rows() == ended


@pytest.mark.slow
def test_weak_trials_stop_early_and_strong_ones_have_all_epochs(photos: Path) -> None:
    rates = "optimizer.lr=0.02,0.03,0.00001,0.00002,0.04"
    more = [*HEADS, rates, "hpo.strategy=grid", "hpo.early_stopping=true", "hpo.metric=val/loss"]
    assert run(*words(photos, *more, "trainer.max_epochs=6", "schedule=constant")) == 0
    counts = epochs()
    found = {row["trial"]: row["state"] for row in rows()}
    assert found["1"] == "Completed"
    assert found["3"] == "Stopped"
    assert {name for name, count in counts.items() if count < 6} == {
        name for name, state in found.items() if state == "Stopped"
    }


@pytest.mark.slow
def test_a_trial_that_has_had_all_its_epochs_is_completed(photos: Path) -> None:
    rates = "optimizer.lr=0.01,0.02,0.00001,0.00002"
    more = [*HEADS, rates, "hpo.strategy=grid", "hpo.early_stopping=true", "hpo.metric=val/loss"]
    assert run(*words(photos, *more, "trainer.max_epochs=1", "schedule=constant")) == 0
    losses = [float(row["objective"]) for row in rows()]
    assert max(losses[:2]) < min(losses[2:])
    assert states() == ["Completed"] * 4


@pytest.mark.slow
def test_hyperband_stops_weak_trials(photos: Path) -> None:
    more = [*HEADS, "optimizer.lr=tag(log,interval(0.000001,0.05))", "hpo.strategy=hyperband"]
    assert (
        run(*words(photos, *more, "trainer.max_epochs=9", "hpo.max_jobs=12", "hpo.metric=val/loss"))
        == 0
    )
    found, counts = rows(), epochs()
    assert len(found) == 12
    assert {row["state"] for row in found} == {"Completed", "Stopped"}
    assert all(counts[row["trial"]] == 9 for row in found if row["state"] == "Completed")
    assert any(counts[row["trial"]] < 9 for row in found if row["state"] == "Stopped")


@pytest.mark.slow
def test_a_photo_that_cannot_be_read_changes_no_trial(photos: Path) -> None:
    """A head of a batch leaves out what a training of its own leaves out."""
    root = Path("damaged")
    shutil.copytree(photos, root)
    index = index_images(root)
    for split in ("train", "validation"):
        damage(root, [sample.path for sample in index.splits[split]])
    more = [*HEADS, "check=off", "optimizer.lr=0.01,0.02", "hpo.strategy=grid"]
    assert run(*words(root, *more, "trainer.max_epochs=2", "hpo.metric=val/loss")) == 0
    best = min(float(row["objective"]) for row in rows())
    assert run("train", "experiment=study/best.yaml", "run_dir=again") == 0
    assert metrics("again")["val/loss"] == pytest.approx(best, abs=1e-5)


def damage(root: Path, paths: Sequence[str]) -> None:
    path = root / next(path for path in paths if path.endswith(".png"))
    content = bytearray(path.read_bytes())
    pixels = content.index(b"IDAT") + 4
    content[pixels + 10 : pixels + 60] = bytes(50)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["hpo.strategy=grid", RATES], "hpo.strategy=grid tries listed values, and optimizer.lr is a range."),
        (
            ["hpo.strategy=hyperband", RATES, "trainer.max_epochs=3,4"],
            "hpo.strategy=hyperband gives out epochs itself",
        ),
        (
            ["hpo.strategy=hyperband", RATES, "hpo.early_stopping=true"],
            "hpo.strategy=hyperband stops weak trials itself.",
        ),
        (
            ["hpo.strategy=hyperband", RATES, "trainer.max_epochs=3", "hpo.min_epochs=4"],
            "hpo.min_epochs=4 is above trainer.max_epochs=3.",
        ),
        ([RATES, "data.root=nowhere"], "data.root=nowhere does not exist."),
        ([RATES, "run_dir=/proc/study"], "run_dir=/proc/study cannot be written"),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_is_refused_before_it_begins(
    photos: Path, more: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(capsys, *words(photos, *HEADS, *more))
    assert not Path("study").exists()


def test_two_studies_in_one_folder_are_refused_and_nothing_is_lost(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*HEADS, "trainer.max_epochs=1", "hpo.max_jobs=2"]
    assert run(*words(photos, *more, RATES)) == 0
    done = rows()
    message = refused(capsys, *words(photos, *more, "model.dropout=0,0.5"))
    assert "study.db is a study of another space" in message
    with locked(Path("study")):
        message = refused(capsys, *words(photos, *more, RATES, "hpo.max_jobs=3"))
    assert message.startswith("run_dir=study: another process is")
    assert rows() == done
    assert run(*words(photos, *more, RATES, "hpo.max_jobs=3")) == 0
    assert rows()[:2] == done


@pytest.mark.slow
def test_the_folder_is_found_again_with_more_jobs_too(photos: Path) -> None:
    more = [word for word in words(photos, *HEADS, RATES) if not word.startswith("run_dir=")]
    for jobs in (2, 3):
        assert run(*more, "trainer.max_epochs=1", f"hpo.max_jobs={jobs}") == 0
    (folder,) = Path("runs/squeezenet").iterdir()
    assert len(rows(str(folder))) == 3


def test_the_best_trial_is_trained_once_more_when_asked_for(photos: Path) -> None:
    folder = "a study (1), of ours"
    more = [*HEADS, RATES, "trainer.max_epochs=1", "hpo.max_jobs=2", "hpo.retrain=true"]
    assert run(*words(photos, *more, folder=f"'{folder}'")) == 0
    best = max(float(row["objective"]) for row in rows(folder))
    # One is written with the digits of float32, the other with those of float64.
    assert metrics(f"{folder}/retrained")["val/accuracy"] == pytest.approx(best, abs=1e-7)


@pytest.mark.slow
def test_a_study_that_has_converged_ends(photos: Path) -> None:
    more = [*HEADS, "optimizer.lr=interval(0.01,0.0101)", "trainer.max_epochs=1"]
    jobs = ["hpo.max_jobs=40", "hpo.until_converged=true"]
    assert run(*words(photos, *more, *jobs)) == 0
    assert 20 <= len(rows()) <= 40
    assert set(states()) == {"Completed"}


@pytest.mark.slow
def test_trials_of_two_processes_are_trials_like_any(photos: Path) -> None:
    more = [*WHOLE, RATES, "trainer.max_epochs=2", "hpo.max_jobs=3", "hpo.strategy=random"]
    small = ["data.batch_size=8", "augment=upright"]
    assert run(*words(photos, *more, *small, folder="one")) == 0
    two = [*more, *small, "trainer=ddp", "trainer.devices=2", "hpo.early_stopping=false"]
    assert run(*words(photos, *two, folder="two")) == 0
    assert states("two") == ["Completed"] * 3
    ours, theirs = rows("two"), rows("one")
    assert [row["optimizer.lr"] for row in ours] == [row["optimizer.lr"] for row in theirs]
    assert [float(row["objective"]) for row in ours] == pytest.approx(
        [float(row["objective"]) for row in theirs], abs=1e-4
    )
    # One folder for all, and nothing beside it.
    assert not Path("runs").exists()
    assert list(Path("two/trials").iterdir()) == []
    assert {path.name for path in Path("two/logs").iterdir()} == {"1.txt", "2.txt", "3.txt"}

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from debugging.trials import GRADIENT, LOSS, REDUCED, WEIGHT, healthy, leave_trial
from sagelight.debugging.records import Place
from sagelight.debugging.trial import REDUCTIONS, Moment, Trial, reduce
from sagelight.debugging.writer import STARTS, TrialWriter, event_file, index_file
from sagelight.errors import DataError, RunError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_what_was_written_is_read(rng: np.random.Generator) -> None:
    steps = [healthy(number, rng) for number in range(4)]
    trial = Trial.open(
        leave_trial(
            Path("trial"), steps, lambda step: {LOSS: np.float32(step)} if step % 2 else None
        )
    )
    assert trial.ended
    assert trial.names() == sorted([LOSS, WEIGHT, GRADIENT])
    assert trial.names(collection="losses") == [LOSS]
    assert trial.names(regex="^gradient/") == [GRADIENT]
    assert trial.steps(LOSS, "TRAIN") == [0, 1, 2, 3]
    assert trial.steps(LOSS, "EVAL") == [0, 1]
    assert trial.moments()[2:5] == [
        Moment(2, "EVAL", 0),
        Moment(3, "TRAIN", 2),
        Moment(4, "TRAIN", 3),
    ]
    assert trial.written(Moment(0, "TRAIN", 0)) == list(steps[0])
    assert trial.written(Moment(99, "TRAIN", 0)) == []
    for step, value in trial.series(WEIGHT, "TRAIN"):
        assert np.array_equal(value, steps[step][WEIGHT])
    assert [float(value) for _, value in trial.series(LOSS, "EVAL")] == [1, 3]
    assert trial.value(WEIGHT, "EVAL", 0) is None
    assert not trial.damaged


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_reduction_is_read_or_computed(reduction: str, rng: np.random.Generator) -> None:
    steps = [healthy(0, rng)]
    kept = Trial.open(leave_trial(Path("kept"), steps, reductions=(reduction,)))
    whole = Trial.open(leave_trial(Path("whole"), steps))
    assert kept.names() == whole.names()
    assert kept.value(WEIGHT, "TRAIN", 0) is None
    [a, b] = [each.value(WEIGHT, "TRAIN", 0, reduction) for each in (kept, whole)]
    assert a == b == reduce(steps[0][WEIGHT], reduction)


def test_a_trial_is_read_while_it_grows(rng: np.random.Generator) -> None:
    writer = TrialWriter(Path("trial"))
    writer.collections({"weights": [WEIGHT]})
    trial = Trial.open(Path("trial"))
    assert not trial.ended
    assert not trial.moments()
    for step in (999, 1000):
        writer.write(Place(step, "TRAIN", step), {WEIGHT: healthy(0, rng)[WEIGHT]})
        assert trial.refresh() == 1
    assert trial.steps(WEIGHT, "TRAIN") == [999, 1000]
    writer.close()
    assert trial.refresh() == 0
    assert trial.ended


def test_the_layout_is_smdebugs(rng: np.random.Generator) -> None:
    leave_trial(Path("trial"), [healthy(0, rng)])
    files = sorted(
        path.relative_to("trial").as_posix() for path in Path("trial").rglob("*") if path.is_file()
    )
    assert files == [
        "collections/000000000/worker_0_collections.json",
        "events/000000000000/000000000000_worker_0.tfevents",
        "index/000000000/000000000000_worker_0.json",
        "training_job_end.ts",
    ]
    index = json.loads(Path("trial", files[2]).read_text())
    assert index["meta"] == {"mode": "TRAIN", "mode_step": 0, "event_file_name": files[1]}
    assert [entry["tensorname"] for entry in index["tensor_payload"]] == [LOSS, WEIGHT, GRADIENT]


def test_workers_share_a_trial(rng: np.random.Generator) -> None:
    for number in range(2):
        writer = TrialWriter(Path("trial"), f"worker_{number}", 2, goes_on=number > 0)
        writer.collections({"weights": [f"{WEIGHT}{number}"]})
        writer.write(Place(0, "TRAIN", 0), {f"{WEIGHT}{number}": healthy(0, rng)[WEIGHT]})
    trial = Trial.open(Path("trial"))
    assert trial.names(collection="weights") == [f"{WEIGHT}0", f"{WEIGHT}1"]
    assert len(trial.moments()) == 1


def test_an_existing_trial_is_not_overwritten(rng: np.random.Generator) -> None:
    leave_trial(Path("trial"), [healthy(0, rng)])
    with pytest.raises(
        RunError, match=r"trial holds a trial already, and nothing in it is overwritten"
    ):
        TrialWriter(Path("trial"))
    assert TrialWriter(Path("trial"), goes_on=True)
    assert not Trial.open(Path("trial")).ended


def test_damage_is_told_by_its_step_and_the_rest_is_read(rng: np.random.Generator) -> None:
    folder = leave_trial(
        Path("trial"), [healthy(number, rng) for number in range(4)], reductions=REDUCED
    )
    events = folder / event_file(1, "worker_0")
    events.write_bytes(events.read_bytes()[:30])
    (folder / index_file(2, "worker_0")).write_text("{half")
    trial = Trial.open(folder)
    read = [step for step, _ in trial.series(LOSS, "TRAIN")]
    assert read == [0, 3]
    assert [sentence.split(":")[0] for sentence in trial.damaged] == [
        "step 2 of worker_0 cannot be read",
        f"{LOSS} in step 1 of TRAIN cannot be read",
    ]


def test_an_index_leads_to_no_file_outside_its_trial(rng: np.random.Generator) -> None:
    folder = leave_trial(Path("trial"), [healthy(0, rng)])
    index = folder / index_file(0, "worker_0")
    index.write_text(index.read_text().replace("events/0", "../elsewhere/0"))
    trial = Trial.open(folder)
    assert not trial.names()
    assert "leads out of the trial" in trial.damaged[0]


def test_what_is_no_trial_is_refused() -> None:
    Path("photos").mkdir()
    with pytest.raises(DataError, match=r"trial=photos is no trial"):
        Trial.open(Path("photos"))


def test_it_knows_whether_a_training_was_continued_in_between() -> None:
    folder = Path("trial")
    TrialWriter(folder)
    assert not (folder / STARTS).exists()
    TrialWriter(folder, goes_on=True)
    assert len((folder / STARTS).read_text().split()) == 1
    (folder / STARTS).write_text("100.5\n2000.25\n")
    trial = Trial(folder)
    assert trial.continued(150.0, 2100.0)
    assert not trial.continued(101.0, 2000.0)
    (folder / STARTS).unlink()
    assert not trial.continued(0.0, 3000.0)

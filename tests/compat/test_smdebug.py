"""The real smdebug 1.0.34 reads what we write, and we read what it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compat.environment import NEEDS_SMDEBUG, read_by_smdebug, smdebug
from debugging.trials import COLLECTIONS, GRADIENT, LOSS, REDUCED, WEIGHT, healthy, leave_trial
from sagelight.debugging.rules.catalogue import build_rules
from sagelight.debugging.rules.evaluate import Evaluation
from sagelight.debugging.trial import Trial, reduce

pytestmark = NEEDS_SMDEBUG


@pytest.mark.parametrize("reductions", [(), REDUCED])
def test_smdebug_reads_every_tensor_of_ours_bit_for_bit(reductions: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    steps = [healthy(number, rng) for number in range(4)]
    folder = leave_trial(
        Path("trial"),
        steps,
        lambda step: {LOSS: np.float32(step)} if step % 2 else None,
        reductions,
    )
    read = read_by_smdebug(folder)
    for name, tensors in COLLECTIONS.items():
        assert read.pop(f"collection|{name}").tolist() == tensors
    for number, values in enumerate(steps):
        assert np.array_equal(read.pop(f"TRAIN|{number}|{LOSS}"), values[LOSS])
        for name in (WEIGHT, GRADIENT):
            key = f"TRAIN|{number}|{name}"
            if not reductions:
                assert read.pop(key).tobytes() == values[name].tobytes()
            for reduction in reductions:
                assert read.pop(f"{key}|{reduction}") == reduce(values[name], reduction)
    assert {key: float(value) for key, value in read.items()} == {
        f"EVAL|0|{LOSS}": 1.0,
        f"EVAL|1|{LOSS}": 3.0,
    }


@pytest.mark.parametrize("reductions", [(), ("reductions",)])
def test_we_read_every_tensor_of_smdebugs_bit_for_bit(reductions: tuple[str, ...]) -> None:
    smdebug("smdebug_writes.py", "theirs", "0.1", *reductions)
    read, trial = read_by_smdebug(Path("theirs")), Trial.open(Path("theirs"))
    for name in COLLECTIONS:
        assert trial.names(collection=name) == read.pop(f"collection|{name}").tolist()
    for key, value in read.items():
        mode, step, name, *reduction = key.split("|")
        ours = trial.value(name, mode, int(step), *reduction)
        assert ours is not None
        assert ours.tobytes() == value.tobytes()
    assert len(read) > 100
    assert trial.ended
    assert not trial.damaged


@pytest.mark.parametrize(
    ("rate", "expected"),
    [("0.5", set()), ("0", {"LossNotDecreasing", "UnchangedTensor", "WeightUpdateRatio"})],
)
def test_our_rules_judge_a_training_that_smdebugs_hook_watched(
    rate: str, expected: set[str]
) -> None:
    smdebug("smdebug_writes.py", "theirs", rate)
    # An epoch has four steps: two epochs are compared with the next two.
    rules = build_rules((), {"LossNotDecreasing": {"num_steps": 8}})
    verdicts = Evaluation(Trial.open(Path("theirs")), rules).end()
    assert {v.name for v in verdicts if v.status == "IssuesFound"} == expected
    assert {v.name for v in verdicts if v.points} >= {
        "VanishingGradient",
        "ExplodingTensor",
        "LossNotDecreasing",
        "Overfit",
    }

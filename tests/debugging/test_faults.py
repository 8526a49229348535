"""Some of the fault library; benchmarks/ trains all of it as a table, and `make slow` as tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from debugging.faults import FAULTS, HEALTHY, Fault, found_by, watch

# What differs most, and takes least: weights, photos, and what goes in.
QUICK = ("zero initialisation", "imbalance", "unnormalised input")
QUICK_HEALTHY = ("shufflenet_v2_x1_0 on digits, seed 0", "resnet18 on stripes, seed 0")


def marked(name: str, quick: tuple[str, ...], *values: Any) -> Any:
    return pytest.param(*values, id=name, marks=() if name in quick else pytest.mark.slow)


@pytest.mark.parametrize("fault", [marked(fault.name, QUICK, fault) for fault in FAULTS])
def test_a_fault_is_found_by_its_rules_and_no_other(fault: Fault) -> None:
    fault.photos(Path("photos"))
    found = found_by(watch(Path("run"), [*fault.words, "data.root=photos"], fault.breaks))
    assert fault.rules <= found <= fault.rules | fault.may


@pytest.mark.parametrize(
    ("words", "photos"),
    [marked(name, QUICK_HEALTHY, words, photos) for name, words, photos in HEALTHY],
)
def test_a_healthy_training_breaks_no_rule(words: list[str], photos: Any) -> None:
    photos(Path("photos"))
    assert not found_by(watch(Path("run"), [*words, "data.root=photos"]))


def test_those_that_are_quick_are_there() -> None:
    assert {fault.name for fault in FAULTS} >= {*QUICK}
    assert {name for name, _, _ in HEALTHY} >= {*QUICK_HEALTHY}

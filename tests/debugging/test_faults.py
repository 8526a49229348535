"""Some of the fault library; benchmarks/ trains all of it as a table, and `make slow` as tests."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from debugging.faults import DIGITS, FAULTS, HEALTHY, SQUEEZENET, Fault, digits, found_by, watch

# What differs most, and takes least: weights, activations, and what goes in; shortened where one epoch shows it.
QUICK: dict[str, list[str]] = {
    "zero initialisation": ["trainer.max_epochs=2"],
    "dead ReLUs": ["trainer.max_epochs=2"],
    "unnormalised input": [
        "trainer.max_epochs=1",
        "debugger.parameters.CheckInputImages.threshold_samples=80",
    ],
}
QUICK_HEALTHY = ("shufflenet_v2_x1_0 on digits, seed 0",)


def some(names: Iterable[str], quick: Iterable[str]) -> list[Any]:
    """Names as parameters; those that are not quick are for `make slow`."""
    return [pytest.param(n, marks=() if n in quick else pytest.mark.slow) for n in names]


def check(fault: Fault, *more: str) -> None:
    fault.photos(Path("photos"))
    found = found_by(watch(Path("run"), [*fault.words, "data.root=photos", *more], fault.breaks))
    assert fault.rules <= found <= fault.rules | fault.may


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_that_shows_soon_is_found_by_its_rules_and_no_other(name: str) -> None:
    [fault] = [each for each in FAULTS if each.name == name]
    check(fault, *QUICK[name])


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_by_its_rules_and_no_other(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("name", some([name for name, _, _ in HEALTHY], QUICK_HEALTHY))
def test_a_healthy_training_breaks_no_rule(name: str) -> None:
    [(words, photos)] = [each[1:] for each in HEALTHY if each[0] == name]
    photos(Path("photos"))
    check_healthy(words)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_network_without_normalisation_breaks_no_rule_where_it_learns(seed: int) -> None:
    """Half of a layer is silent now and then, and the loss of a batch jumps about."""
    digits(Path("photos"), DIGITS)
    check_healthy([SQUEEZENET, f"seed={seed}", "optimizer.lr=0.0003", "trainer.max_epochs=6"])


def check_healthy(words: list[str]) -> None:
    """Nothing is found in a training that learns more than to guess."""
    assert not found_by(watch(Path("run"), [*words, "data.root=photos"]))
    with Path("run/metrics.csv").open(newline="", encoding="utf-8") as file:
        best = max(float(row["val/accuracy"]) for row in csv.DictReader(file))
    assert best > 1.5 / len(list(Path("photos").iterdir()))

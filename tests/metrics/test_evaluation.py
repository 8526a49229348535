"""The figures against scikit-learn's and torchmetrics' own."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from torchmetrics.classification import MulticlassCalibrationError

from sagelight.metrics import evaluation as module
from sagelight.metrics.evaluation import Evaluation, evaluate

CASES = [(400, 7, 0), (60, 3, 1), (37, 12, 2), (1, 2, 3)]


def random_case(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, count)
    scores = rng.normal(0, 1.5, (count, classes))
    scores[np.arange(count), targets] += 1.2
    powers = np.exp(scores)
    labels = [f"class {index}" for index in range(classes)]
    return powers / powers.sum(axis=1, keepdims=True), targets, labels


@pytest.mark.parametrize(("count", "classes", "seed"), CASES)
def test_per_class_figures_are_those_of_scikit_learn(count: int, classes: int, seed: int) -> None:
    probabilities, targets, labels = random_case(count, classes, seed)
    found = evaluate(probabilities, targets, labels)
    predicted, everything = probabilities.argmax(axis=1), list(range(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, predicted, labels=everything, zero_division=0
    )
    rows = found.per_class
    assert [row.precision for row in rows] == pytest.approx(precision)
    assert [row.recall for row in rows] == pytest.approx(recall)
    assert [row.f1 for row in rows] == pytest.approx(f1)
    assert [row.support for row in rows] == support.tolist()
    present = support > 0
    assert found.macro_precision == pytest.approx(precision[present].mean())
    assert found.macro_recall == pytest.approx(recall[present].mean())
    assert found.macro_f1 == pytest.approx(f1[present].mean())
    assert found.confusion == confusion_matrix(targets, predicted, labels=everything).tolist()


@pytest.mark.parametrize(("count", "classes", "seed"), CASES[:3])
def test_accuracy_top5_and_loss_are_those_of_scikit_learn(
    count: int, classes: int, seed: int
) -> None:
    probabilities, targets, labels = random_case(count, classes, seed)
    found, everything = evaluate(probabilities, targets, labels), range(classes)
    assert found.accuracy == pytest.approx((probabilities.argmax(axis=1) == targets).mean())
    assert found.loss == pytest.approx(log_loss(targets, probabilities, labels=list(everything)))
    if classes > 5:
        top5 = top_k_accuracy_score(targets, probabilities, k=5, labels=list(everything))
        assert found.top5_accuracy == pytest.approx(top5)
    else:
        assert found.top5_accuracy == 1


@pytest.mark.parametrize(("count", "classes", "seed"), CASES)
def test_calibration_error_is_that_of_torchmetrics(count: int, classes: int, seed: int) -> None:
    probabilities, targets, labels = random_case(count, classes, seed)
    found = evaluate(probabilities, targets, labels)
    reference = MulticlassCalibrationError(classes, n_bins=15, norm="l1")
    expected = reference(torch.from_numpy(probabilities), torch.from_numpy(targets))
    assert found.ece == pytest.approx(float(expected), abs=1e-6)
    assert sum(entry.count for entry in found.calibration) == count


def test_a_certain_and_right_classifier_is_perfectly_calibrated() -> None:
    found = evaluate(np.eye(3), np.arange(3), ["a", "b", "c"])
    assert (found.accuracy, found.ece, found.loss) == (1, 0, 0)
    assert found.calibration[-1].count == 3


def test_a_class_without_photos_counts_in_no_mean() -> None:
    found = evaluate(np.eye(3)[[0, 1, 2]], np.array([0, 1, 1]), ["a", "b", "c"])
    assert found.per_class[2].support == 0
    assert found.macro_recall == pytest.approx((1 + 0.5) / 2)
    assert found.per_class[2].f1 == 0


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (20, 20, 0.8389, 1), (0, 20, 0, 0.1611), (1, 2, 0.0945, 0.9055)],
)
def test_interval_of_the_accuracy(hits: int, count: int, low: float, high: float) -> None:
    # 81 of 263 is the published example of Newcombe (1998), method 3.
    right = np.arange(count) < hits
    probabilities = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    found = evaluate(probabilities, np.zeros(count, np.int64), ["a", "b"])
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, truth, covered = np.random.default_rng(0), 0.85, 0
    for _ in range(300):
        right = rng.random(120) < truth
        probabilities = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
        found = evaluate(probabilities, np.zeros(120, np.int64), ["a", "b"])
        covered += found.accuracy_low <= truth <= found.accuracy_high
    assert 0.91 <= covered / 300 <= 0.99


def test_round_trip_through_json() -> None:
    found = evaluate(*random_case(50, 4, 5))
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_figures_carry_the_split_in_their_names() -> None:
    found = evaluate(*random_case(50, 4, 5))
    figures = found.figures("test")
    assert figures["test/accuracy"] == found.accuracy
    assert figures["test/macro_f1"] == found.macro_f1
    assert len(figures) == 11


@pytest.mark.parametrize(
    ("probabilities", "targets"),
    [
        (np.zeros((0, 2)), np.zeros(0, np.int64)),
        (np.full((3, 2), 0.5), np.zeros(2, np.int64)),
        (np.full((3, 3), 1 / 3), np.zeros(3, np.int64)),
        (np.full((3, 2), np.nan), np.zeros(3, np.int64)),
    ],
    ids=["no rows", "other count", "other classes", "not finite"],
)
def test_what_cannot_be_measured_is_refused(probabilities: np.ndarray, targets: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"fit|finite"):
        evaluate(probabilities, targets, ["a", "b"])


def test_bootstrap_interval_of_macro_f1_narrows_with_photos() -> None:
    def interval(copies: int) -> tuple[float, float, float]:
        rows = np.tile(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]]), (copies, 1))
        targets = np.tile(np.array([0, 1, 1, 1]), copies)
        found = evaluate(rows, targets, ["a", "b"])
        return found.macro_f1_low, found.macro_f1, found.macro_f1_high

    low, middle, high = interval(5)
    assert 0 <= low < middle < high <= 1
    narrow_low, _, narrow_high = interval(100)
    assert narrow_high - narrow_low < (high - low) / 3


def test_the_interval_of_many_mistakes_takes_no_more_memory_than_a_few_redraws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, classes = 20_000, 200
    rng = np.random.default_rng(0)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (rng.integers(0, classes, count), rng.integers(0, classes, count)), 1)
    ways = np.count_nonzero(confusion)
    monkeypatch.setattr(module, "BOOTSTRAP_SAMPLES", 45)
    at_once = module._bootstrap_macro_f1(confusion)
    monkeypatch.setattr(module, "AT_ONCE", 2 * ways)
    tracemalloc.start()
    assert module._bootstrap_macro_f1(confusion) == at_once
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Eight bytes a way to be mistaken; all redraws at once are 45 of those.
    assert peak < 15 * 8 * ways


def test_a_matrix_is_handed_on_as_it_is() -> None:
    found = evaluate(*random_case(60, 3, 1))
    assert found.to_dict()["confusion"] is found.confusion


def test_the_probabilities_of_many_classes_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, targets, labels = random_case(3000, 100, 4)
    monkeypatch.setattr(module, "BOOTSTRAP_SAMPLES", 5)
    at_once = evaluate(probabilities, targets, labels)
    monkeypatch.setattr(module, "AT_ONCE", 7000)
    tracemalloc.start()
    assert evaluate(probabilities, targets, labels) == at_once
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < probabilities.nbytes / 2

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from debugging.trials import (
    ACTIVE,
    BRIDGE_COLLECTIONS,
    GRADIENT,
    IMAGES,
    LABELS,
    LOSS,
    PREDICTIONS,
    REDUCED,
    RELU_IN,
    RELU_IN_2,
    RELU_OUT,
    SIGMOID,
    TANH,
    UPDATE,
    WEIGHT,
    WHOLE_COLLECTIONS,
    as_our_bridge_keeps,
    complete,
    healthy,
    leave_steps,
    leave_trial,
)
from sagelight.debugging.rules.base import Look, Rule, Verdict
from sagelight.debugging.rules.catalogue import (
    RULES,
    USUAL,
    build_rules,
    build_usual,
    parameters_of,
)
from sagelight.debugging.rules.evaluate import MOST_FINDINGS, Evaluation, findings
from sagelight.debugging.rules.reading import chosen, loss_at
from sagelight.debugging.settings import DebuggerSettings
from sagelight.debugging.trial import Moment, Trial
from sagelight.errors import ConfigError

STEPS = 60
Change = Callable[[int, dict[str, Any]], Any]
# Parameters without which a rule has nothing to judge.
NEEDED = {"TensorVariance": {"max_threshold": 100.0}}


def verdicts(folder: Path, *names: str, **parameters: dict[str, Any]) -> dict[str, Verdict]:
    found = Evaluation(Trial.open(folder), build_rules(names, NEEDED | parameters)).end()
    return {verdict.name: verdict for verdict in found}


def leave(
    change: Change = lambda step, values: None,
    validation: Callable[[int, float], float] = lambda step, loss: 1.02 * loss,
    reductions: tuple[str, ...] = (),
) -> Path:
    """A trial of a healthy training in which something has been changed; each tenth step is followed by validation."""
    rng = np.random.default_rng(0)
    steps = [healthy(number, rng) for number in range(STEPS)]
    for number, values in enumerate(steps):
        change(number, values)

    def validate(step: int) -> dict[str, Any] | None:
        if step % 10 != 9:
            return None
        return {LOSS: np.float32(validation(step, float(steps[step][LOSS])))}

    return leave_trial(Path("trial"), steps, validate, reductions)


FORMS = ("whole", "bridge")


def leave_complete(
    form: str = "whole",
    change: Change = lambda step, values: None,
    validation: Callable[[int, float], float] = lambda step, loss: 1.02 * loss,
    folder: str = "trial",
) -> Path:
    """As `leave`, with something for each of the rules: whole tensors, or what our bridge keeps of them."""
    rng = np.random.default_rng(0)
    train = [complete(number, rng) for number in range(STEPS)]
    for number, values in enumerate(train):
        change(number, values)
    steps: list[tuple[str, dict[str, Any]]] = []
    kept = as_our_bridge_keeps(train) if form == "bridge" else train
    for number, values in enumerate(kept):
        steps.append(("TRAIN", values))
        if number % 10 == 9:
            loss = np.float32(validation(number, float(values[LOSS])))
            steps.append(
                ("EVAL", {LOSS: loss, **{name: values[name] for name in (LABELS, PREDICTIONS)}})
            )
    collections = BRIDGE_COLLECTIONS if form == "bridge" else WHOLE_COLLECTIONS
    return leave_steps(Path(folder), steps, collections)


def judged(form: str, folder: Path, **parameters: dict[str, Any]) -> dict[str, Verdict]:
    """Every rule over a complete trial, which is also the other trial that it is compared with."""
    needed: dict[str, dict[str, Any]] = {"SimilarAcrossRuns": {"other_trials": "trial"}}
    if form == "bridge":
        needed["CheckInputImages"] = {"regex": "backbone_input_0"}
    return verdicts(folder, **needed | parameters)


def issues(found: dict[str, Verdict]) -> set[str]:
    return {name for name, verdict in found.items() if verdict.status == "IssuesFound"}


@pytest.mark.parametrize("form", FORMS)
def test_a_healthy_training_breaks_no_rule(form: str) -> None:
    """Of the seventeen, TensorVariance and SimilarAcrossRuns have nothing to judge without parameters."""
    found = judged(form, leave_complete(form))
    assert found.keys() == RULES.keys()
    assert {verdict.status for verdict in found.values()} == {"NoIssuesFound"}
    assert all(verdict.points for verdict in found.values())


def test_reductions_alone_leave_little_unjudged() -> None:
    names = (
        "VanishingGradient ExplodingTensor LossNotDecreasing AllZero UnchangedTensor TensorVariance"
    )
    found = verdicts(leave(reductions=REDUCED), *names.split(), "WeightUpdateRatio")
    assert {name for name, verdict in found.items() if verdict.points} == set(names.split())
    assert not issues(found)
    assert found["WeightUpdateRatio"].status == "NotEvaluated"
    assert "nor how far they were moved" in found["WeightUpdateRatio"].reason


def _silence(step: int, values: dict[str, Any]) -> None:
    values[RELU_OUT][:, :4] = 0


def _same_inputs(step: int, values: dict[str, Any]) -> None:
    values[RELU_IN_2][...] = 1.0


def _far_apart_and_stuck(step: int, values: dict[str, Any]) -> None:
    values[RELU_IN_2] *= 10
    values[LOSS] = np.float32(2.0)


def _one_class(step: int, values: dict[str, Any]) -> None:
    values[LABELS][:] = 0
    if step % 20 == 19:
        values[LABELS][0] = 1
    values[PREDICTIONS] = values[LABELS].copy()


def _mistake(step: int, values: dict[str, Any]) -> None:
    values[PREDICTIONS][values[LABELS] == 2] = 1


def _jump(step: int, values: dict[str, Any]) -> None:
    values[WEIGHT] = np.full((4, 3), 1.0 if step % 2 else 1e-3, np.float32)


STILL = {"UnchangedTensor", "WeightUpdateRatio"}
FAULTS: list[tuple[set[str], Change]] = [
    ({"VanishingGradient"}, lambda step, v: v.update({GRADIENT: v[GRADIENT] * 1e-8})),
    (
        {"ExplodingTensor"},
        lambda step, v: v[GRADIENT].__setitem__((0, 0), np.nan if step == 30 else 0.01),
    ),
    ({"LossNotDecreasing", "Overtraining"}, lambda step, v: v.update({LOSS: np.float32(2.0)})),
    (STILL, lambda step, v: v.update({WEIGHT: np.ones((4, 3), np.float32)})),
    ({"AllZero", *STILL}, lambda step, v: v.update({WEIGHT: np.zeros((4, 3), np.float32)})),
    ({"WeightUpdateRatio"}, _jump),
    ({"TensorVariance"}, lambda step, v: v.update({WEIGHT: v[WEIGHT] * 1000})),
    ({"DeadRelu"}, _silence),
    ({"SaturatedActivation"}, lambda step, v: v[TANH].__iadd__(30)),
    ({"SaturatedActivation"}, lambda step, v: v[SIGMOID].__isub__(40)),
    ({"PoorWeightInitialization"}, _same_inputs),
    (
        {"PoorWeightInitialization", "LossNotDecreasing", "Overtraining"},
        _far_apart_and_stuck,
    ),
    ({"CheckInputImages"}, lambda step, v: v[IMAGES].__iadd__(0.3)),
    ({"ClassImbalance"}, _one_class),
    ({"Confusion"}, _mistake),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("names", "fault"), FAULTS, ids=[f"{n}-{min(names)}" for n, (names, _) in enumerate(FAULTS)]
)
def test_a_fault_is_found_by_its_rules_and_no_other(
    names: set[str], fault: Change, form: str
) -> None:
    found = judged(form, leave_complete(form, fault))
    assert issues(found) == names
    assert {verdict.status for verdict in found.values()} == {"IssuesFound", "NoIssuesFound"}
    assert all(found[name].findings[0].numbers for name in names)


@pytest.mark.parametrize("form", FORMS)
def test_a_training_that_goes_otherwise_than_another_is_found(form: str) -> None:
    leave_complete(form, folder="other")
    folder = leave_complete(form, lambda step, v: v[WEIGHT].__iadd__(1e-3 * (step == 7)))
    parameters = {"SimilarAcrossRuns": {"other_trials": "other"}}
    found = judged(form, folder, **parameters)
    assert issues(found) == {"SimilarAcrossRuns"}
    assert {f.moment.step for f in found["SimilarAcrossRuns"].findings} == {7}


def one(
    name: str,
    steps: Iterable[Mapping[str, Any] | tuple[str, Mapping[str, Any]]],
    /,
    collections: Mapping[str, Iterable[str]] = WHOLE_COLLECTIONS,
    **parameters: Any,
) -> Verdict:
    """The verdict of one rule over steps of TRAIN, or of the modes that they name."""
    named = [each if isinstance(each, tuple) else ("TRAIN", each) for each in steps]
    number = len(list(Path().iterdir()))
    folder = leave_steps(Path(f"trial{number}"), named, collections)
    [verdict] = Evaluation(Trial.open(folder), build_rules([name], {name: parameters})).end()
    return verdict


def is_found(name: str, steps: Iterable[Any], /, **parameters: Any) -> bool:
    """Whether a rule finds something; it must have judged something."""
    verdict = one(name, steps, **parameters)
    assert verdict.points, verdict.reason
    return verdict.status == "IssuesFound"


def full(value: float, *shape: int) -> NDArray[np.float32]:
    return np.full(shape or (4, 3), value, np.float32)


def of_classes(*counts: int) -> NDArray[np.int32]:
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def losses(*values: float) -> list[dict[str, Any]]:
    return [{LOSS: np.float32(value)} for value in values]


def test_a_gradient_vanishes_below_its_threshold_while_there_is_much_to_learn() -> None:
    assert not is_found("VanishingGradient", [{GRADIENT: full(0.5)}], threshold=0.5)
    assert is_found("VanishingGradient", [{GRADIENT: full(0.499)}], threshold=0.5)
    small = [{LOSS: np.float32(loss), GRADIENT: full(1e-9)} for loss in (2.0, 0.21, 0.19)]
    verdict = one("VanishingGradient", small)
    assert [finding.moment.step for finding in verdict.findings] == [0, 1]
    assert one("VanishingGradient", [("EVAL", {GRADIENT: full(0)})]).status == "NotEvaluated"


@pytest.mark.parametrize("where", [LOSS, WEIGHT, GRADIENT])
def test_a_number_that_is_none_is_found_wherever_it_is(where: str) -> None:
    for value in (np.nan, np.inf, -np.inf):
        assert is_found("ExplodingTensor", [{where: full(value)}])
        assert is_found("ExplodingTensor", [{where: full(value)}], only_nan=True) == np.isnan(value)
    assert not is_found("ExplodingTensor", [{where: full(3e38)}])


def test_a_share_of_zeros_is_found_from_its_threshold_on() -> None:
    half = np.array([0, 0, 1, 1], np.float32)
    assert is_found("AllZero", [{WEIGHT: half}], threshold=50.0)
    assert not is_found("AllZero", [{WEIGHT: half}], threshold=50.1)
    assert not is_found("AllZero", [{WEIGHT: half * 0 + np.eye(4, dtype=np.float32)[0]}])
    assert is_found("AllZero", [{LOSS: np.float32(0)}], collection_names="losses")
    assert is_found("AllZero", [{RELU_OUT: full(0)}], tensor_regex="relu_output")


def still(*values: float) -> list[dict[str, Any]]:
    return [{WEIGHT: full(value), GRADIENT: full(1.0)} for value in values]


def test_a_weight_must_stand_still_for_as_many_steps_as_are_named() -> None:
    assert not is_found("UnchangedTensor", still(1, 1, 2, 2, 3, 3))
    assert is_found("UnchangedTensor", still(1, 2, 2, 2))
    assert is_found("UnchangedTensor", still(1, 1, 2, 2, 3), num_steps=2)
    # allclose's own tolerance.
    assert is_found("UnchangedTensor", still(1, 1 + 1e-6, 1))
    assert not is_found("UnchangedTensor", still(1, 1 + 1e-4, 1))
    assert is_found("UnchangedTensor", still(1, 1 + 1e-4, 1), rtol=1e-3)
    assert not is_found("UnchangedTensor", still(*[np.nan] * 3))
    assert is_found("UnchangedTensor", still(*[np.nan] * 3), equal_nan=True)
    # Weights without gradients are frozen on purpose; who names one wants to know.
    frozen = [{WEIGHT: full(1)}] * 3
    assert one("UnchangedTensor", frozen).status == "NotEvaluated"
    assert is_found("UnchangedTensor", frozen, collection_names="weights")


def moved(*amounts: float) -> list[dict[str, Any]]:
    return [{WEIGHT: full(2.0), GRADIENT: full(1.0), UPDATE: full(amount)} for amount in amounts]


def test_a_weight_that_our_bridge_saw_moved_has_moved() -> None:
    assert not is_found("UnchangedTensor", moved(0, 0, 1e-12), collections=BRIDGE_COLLECTIONS)
    assert is_found("UnchangedTensor", moved(1, 0, 0, 0), collections=BRIDGE_COLLECTIONS)


def test_the_ratio_of_an_update_has_two_bounds() -> None:
    assert not is_found("WeightUpdateRatio", moved(19.9), collections=BRIDGE_COLLECTIONS)
    assert is_found("WeightUpdateRatio", moved(20.1), collections=BRIDGE_COLLECTIONS)
    assert not is_found("WeightUpdateRatio", moved(2.1e-8), collections=BRIDGE_COLLECTIONS)
    assert is_found("WeightUpdateRatio", moved(1.9e-8), collections=BRIDGE_COLLECTIONS)
    assert is_found("WeightUpdateRatio", still(1, 1), small_threshold=1e-3)
    # Over two steps, 1 to 1.5: a third.
    assert not is_found("WeightUpdateRatio", still(1, 9, 1.5), num_steps=2, large_threshold=0.34)
    assert is_found("WeightUpdateRatio", still(1, 9, 1.5), num_steps=2, large_threshold=0.33)


def test_a_variance_leaves_its_range() -> None:
    spread = [{WEIGHT: np.array([-1, 1], np.float32)}]
    assert not is_found("TensorVariance", spread, max_threshold=1.0, min_threshold=1.0)
    assert is_found("TensorVariance", spread, max_threshold=0.99)
    assert is_found("TensorVariance", spread, min_threshold=1.01)
    assert one("TensorVariance", spread).reason == "it needs max_threshold or min_threshold"


def outputs(dead: int, positive: int = 2) -> dict[str, Any]:
    """Of six channels so many of which `positive` in 200 outputs are positive; the others are all so."""
    values = np.ones((2, 6, 100), np.float32)
    values[:, :dead] = 0
    values[0, :dead, :positive] = 1
    return {RELU_OUT: values}


def test_a_relu_is_dead_below_one_percent_and_a_layer_above_half_its_channels() -> None:
    assert not is_found("DeadRelu", [outputs(6, positive=2)])
    assert is_found("DeadRelu", [outputs(4, positive=1)])
    assert not is_found("DeadRelu", [outputs(3, positive=1)])
    assert is_found("DeadRelu", [outputs(4, positive=2)], threshold_inactivity=1.1)
    assert is_found("DeadRelu", [outputs(3, positive=1)], threshold_layer=49.0)
    shares = {ACTIVE: np.array([0, 0, 0, 1], np.float16)}
    assert is_found("DeadRelu", [shares], collections=BRIDGE_COLLECTIONS)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        (TANH, -9.4, -9.6),
        (TANH, 9.4, 9.6),
        (SIGMOID, -22.9, -23.1),
        (SIGMOID, 16.9, 17.1),
    ],
)
def test_an_activation_saturates_where_it_is_flat(name: str, inside: float, outside: float) -> None:
    assert not is_found("SaturatedActivation", [{name: full(inside, 2, 4, 5)}])
    assert is_found("SaturatedActivation", [{name: full(outside, 2, 4, 5)}])
    half = full(outside, 2, 4, 5)
    half[:, :2] = inside
    assert not is_found("SaturatedActivation", [{name: half}])
    assert is_found("SaturatedActivation", [{name: half}], threshold_layer=49.0)
    one_in_a_hundred = full(outside, 2, 4, 50)
    one_in_a_hundred[0, :, 0] = inside
    assert not is_found("SaturatedActivation", [{name: one_in_a_hundred}])
    assert is_found("SaturatedActivation", [{name: one_in_a_hundred}], threshold_inactivity=1.1)
    levels = f"{name.replace('.', '_')}_range"
    kept = {"collections": BRIDGE_COLLECTIONS}
    assert not is_found("SaturatedActivation", [{levels: full(inside, 2, 4)}], **kept)
    assert is_found("SaturatedActivation", [{levels: full(outside, 2, 4)}], **kept)


def starts(spread: float, gradient: float, *values: float) -> list[dict[str, Any]]:
    wave = np.tile(np.array([-1, 1], np.float32), 50)
    return [
        {
            LOSS: np.float32(value),
            RELU_IN: wave,
            RELU_IN_2: wave * np.float32(spread**0.5),
            GRADIENT: wave * np.float32(gradient / 2),
        }
        for value in values
    ]


def test_a_poor_start_needs_a_sign_and_a_loss_that_does_not_fall() -> None:
    name, stuck = "PoorWeightInitialization", [2.0, 3, 3, 3, 3, 3]
    assert is_found(name, starts(10.1, 1, *stuck))
    assert not is_found(name, starts(9.9, 1, *stuck))
    assert not is_found(name, starts(10.1, 1, *stuck[:5]))
    assert is_found(name, starts(10.1, 1, *stuck[:5]), patience=4)
    assert not is_found(name, starts(10.1, 1, 6, 5, 4, 3, 2, 1))
    assert is_found(name, starts(1, 0.99e-3, *stuck))
    assert not is_found(name, starts(1, 1.01e-3, *stuck))
    # Only the start is judged.
    late = starts(1, 1, *range(30, 20, -1)) + starts(99, 1, *stuck)
    assert not is_found(name, late)
    assert is_found(name, late, steps=20)


def test_channels_that_all_do_the_same_are_a_poor_start() -> None:
    name, kept = "PoorWeightInitialization", {"collections": BRIDGE_COLLECTIONS}
    assert is_found(name, [{ACTIVE: np.full(4, 0.5, np.float16)}], **kept)
    for shares in ([0.5, 0.5, 0.5, 0.4], [0] * 4, [1] * 4, [0.5]):
        assert not is_found(name, [{ACTIVE: np.array(shares, np.float16)}], **kept)


def test_images_are_judged_by_their_mean_once_there_are_enough() -> None:
    name, images = "CheckInputImages", full(0.25, 5, 3, 2, 2)
    few = one(name, [{IMAGES: images}] * 2, threshold_samples=11)
    assert (few.status, few.points) == ("NotEvaluated", 0)
    assert few.reason == "the trial holds 10 images of the 11 that it needs"
    assert is_found(name, [{IMAGES: images}] * 2, threshold_samples=10)
    assert not is_found(name, [{IMAGES: images}] * 2, threshold_samples=10, threshold_mean=0.25)
    # Bright ones are outweighed by dark ones, and one channel is enough.
    assert not is_found(name, [{IMAGES: images}, {IMAGES: -images}], threshold_samples=10)
    red = images * 0
    red[:, 0] = -0.5
    assert is_found(name, [{IMAGES: red}], threshold_samples=5)
    last = np.moveaxis(red, 1, -1)
    assert is_found(name, [{IMAGES: last}], threshold_samples=5, channel=3)
    assert not is_found(name, [{IMAGES: last}], threshold_samples=5, channel=1)


def test_classes_are_imbalanced_above_ten_to_one() -> None:
    name = "ClassImbalance"
    ten, more = {LABELS: of_classes(100, 10)}, {LABELS: of_classes(101, 10)}
    assert not is_found(name, [ten], samples=110)
    assert is_found(name, [more], samples=110)
    assert not is_found(name, [more], samples=111, threshold_imbalance=11.0)
    few = one(name, [more], samples=112)
    assert few.reason == "the trial holds 111 labels of the 112 that it needs"


def test_a_rare_class_that_is_mispredicted_is_found() -> None:
    name, labels = "ClassImbalance", of_classes(100, 39, 100)
    right = labels.copy()
    wrong = labels.copy()
    wrong[100:129] = 0
    steps = [("EVAL", {LABELS: labels, PREDICTIONS: wrong})]
    assert is_found(name, steps, samples=1)
    assert not is_found(name, steps, samples=1, threshold_misprediction=0.75)
    assert not is_found(name, [("TRAIN", steps[0][1])], samples=1)
    # What was mispredicted before is forgotten.
    assert not is_found(name, [*steps, ("EVAL", {LABELS: labels, PREDICTIONS: right})], samples=1)
    scores = np.eye(3, dtype=np.float32)[wrong]
    assert is_found(name, [("EVAL", {LABELS: labels, PREDICTIONS: scores})], samples=1, argmax=True)


def test_a_class_is_confused_below_nine_of_ten() -> None:
    name, labels = "Confusion", of_classes(10, 10, 10)
    nine, eight = labels.copy(), labels.copy()
    nine[0], eight[0], eight[1] = 1, 1, 2
    assert not is_found(name, [("EVAL", {LABELS: labels, PREDICTIONS: nine})])
    assert is_found(name, [("EVAL", {LABELS: labels, PREDICTIONS: eight})])
    steps = [("EVAL", {LABELS: labels, PREDICTIONS: eight})]
    assert not is_found(name, steps, min_diag=0.8)
    assert is_found(name, steps, min_diag=0.8, max_off_diag=0.09)
    # The last validation counts, whatever came before, and training only where there is none.
    good = {LABELS: labels, PREDICTIONS: labels}
    assert not is_found(name, [*steps, ("EVAL", good)])
    assert not is_found(name, [("TRAIN", steps[0][1]), ("EVAL", good)])
    assert is_found(name, [("TRAIN", steps[0][1]), ("TRAIN", good)], min_diag=0.96)
    scores = np.eye(4, dtype=np.float32)[eight]
    found = one(name, [("EVAL", {LABELS: labels, PREDICTIONS: scores})], category_no=4)
    assert [finding.tensor for finding in found.findings] == ["class 0"]
    assert found.findings[0].numbers == "80 % are predicted rightly, 10 % as class 1"


ABSENT = "the trial holds none of the tensors that it looks at"
EIGHT = np.array([1, 2, *[0] * 8, *[1] * 10, *[2] * 10], np.int32)
RARE = np.repeat(np.array([0, 0, 1, 2], np.int32), (100, 29, 10, 100))
STUCK = (2.0, 3, 3, 3, 3, 3)
FOUND: list[tuple[str, list[Any], dict[str, Any], int, tuple[str, int, str, str]]] = [
    ("VanishingGradient", [{GRADIENT: full(0.25)}], {"threshold": 0.5}, 1, ("TRAIN", 0, GRADIENT, "mean magnitude 2.50e-01, below 0.5")),
    ("ExplodingTensor", [{WEIGHT: full(1)}, {WEIGHT: full(np.inf), GRADIENT: full(1)}], {}, 3, ("TRAIN", 1, WEIGHT, "holds inf")),
    ("AllZero", [{WEIGHT: np.array([0, 0, 1, 1], np.float32)}], {"threshold": 50.0}, 1, ("TRAIN", 0, WEIGHT, "50.0 % are zero")),
    ("UnchangedTensor", still(1, 2, 2, 2), {}, 2, ("TRAIN", 3, WEIGHT, "the same over 3 of its steps")),
    ("WeightUpdateRatio", still(1, 3), {"large_threshold": 0.1}, 1, ("TRAIN", 1, WEIGHT, "moved by 6.67e-01 of its size")),
    ("WeightUpdateRatio", moved(24), {"collections": BRIDGE_COLLECTIONS}, 1, ("TRAIN", 0, WEIGHT, "moved by 1.20e+01 of its size")),
    ("TensorVariance", [{WEIGHT: np.array([-1, 1], np.float32)}], {"max_threshold": 0.5}, 1, ("TRAIN", 0, WEIGHT, "variance 1.00e+00")),
    ("DeadRelu", [outputs(4, positive=1)], {}, 1, ("TRAIN", 0, RELU_OUT, "67 % of 6 channels are inactive")),
    ("SaturatedActivation", [{TANH: full(30, 2, 4, 5)}], {}, 1, ("TRAIN", 0, TANH, "100 % of the channels are saturated")),
    ("PoorWeightInitialization", starts(10.1, 1, *STUCK), {}, 18, ("TRAIN", 5, "relu_input", "variances from 1.00e+00 to 1.01e+01; no lower loss than 2 in 5 steps")),
    ("PoorWeightInitialization", starts(1, 0.99e-3, *STUCK), {}, 18, ("TRAIN", 5, "gradients", "they spread by 9.90e-04 at most; no lower loss than 2 in 5 steps")),
    ("PoorWeightInitialization", [{ACTIVE: np.full(4, 0.5, np.float16)}], {"collections": BRIDGE_COLLECTIONS}, 1, ("TRAIN", 0, ACTIVE, "all its channels do the same")),
    ("PoorWeightInitialization", [{RELU_IN: full(1)}], {}, 1, ("TRAIN", 0, RELU_IN, "its inputs are all the same")),
    ("CheckInputImages", [{IMAGES: full(0.25, 5, 3, 2, 2)}] * 2, {"threshold_samples": 10}, 1, ("TRAIN", 1, IMAGES, "means 0.25, 0.25, 0.25 over 10 images")),
    ("ClassImbalance", [{LABELS: of_classes(101, 10)}], {"samples": 110}, 1, ("TRAIN", 0, "class 1", "10 of 111 labels, the most frequent class has 101")),
    ("ClassImbalance", [("EVAL", {LABELS: of_classes(100, 39, 100), PREDICTIONS: RARE})], {"samples": 1}, 4, ("EVAL", 0, "class 1", "74 % of its 39 samples mispredicted")),
    ("Confusion", [("EVAL", {LABELS: of_classes(10, 10, 10), PREDICTIONS: EIGHT})], {}, 3, ("EVAL", 0, "class 0", "80 % are predicted rightly, 10 % as class 1")),
    ("LossNotDecreasing", losses(*[1.0] * 10, *[0.9991] * 10), {}, 1, ("TRAIN", 19, LOSS, "mean of 10 steps 1, of the next 0.9991")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "steps", "parameters", "points", "found"), FOUND)
def test_a_finding_says_where_and_by_how_much(
    name: str,
    steps: list[Any],
    parameters: dict[str, Any],
    points: int,
    found: tuple[str, int, str, str],
) -> None:
    verdict = one(name, steps, **parameters)
    assert verdict.points == points
    [finding] = verdict.findings
    moment = finding.moment
    assert (moment.mode, moment.step, finding.tensor, finding.numbers) == found


NOTHING = {
    **dict.fromkeys(RULES, ABSENT),
    "Overfit": "the trial holds no losses of both training and validation",
    "PoorWeightInitialization": "the trial holds none of what it looks at in the first 10 steps",
    "WeightUpdateRatio": "the trial holds neither whole weights with gradients nor how far they were moved",
    "DeadRelu": "the trial holds no outputs of ReLU modules",
    "SaturatedActivation": "the trial holds no inputs of tanh or sigmoid modules",
    "TensorVariance": "it needs max_threshold or min_threshold",
    "ClassImbalance": "the trial holds 0 labels of the 500 that it needs",
    "Confusion": "the trial holds no labels with predictions",
    "StalledTraining": "the trial holds fewer than two steps",
    "SimilarAcrossRuns": "it needs other_trials, the folder of another trial",
    "CheckInputImages": "the trial holds 0 images of the 500 that it needs",
}


def test_a_loss_must_fall_by_a_tenth_of_a_percent_in_ten_steps() -> None:
    name = "LossNotDecreasing"
    assert is_found(name, losses(*[1.0] * 10, *[0.9991] * 10))
    assert not is_found(name, losses(*[1.0] * 10, *[0.9989] * 10))
    assert one(name, losses(*[1.0] * 19)).status == "NotEvaluated"
    assert is_found(name, losses(*[1.0] * 6), num_steps=3)
    # A standstill is none once the network has learned.
    assert not is_found(name, losses(*[1.0] * 10, *[0.7] * 20))
    assert is_found(name, losses(*[1.0] * 10, *[0.8] * 20))
    # A rise by more than five percent of where it began is one, however much was learned.
    assert is_found(name, losses(*[1.0] * 10, *[0.5] * 10, *[0.56] * 10))
    assert not is_found(name, losses(*[1.0] * 10, *[0.5] * 10, *[0.54] * 10))
    assert is_found(name, losses(*[1.0] * 10, *[np.nan] * 10))
    other = [("EVAL", values) for values in losses(*[1.0] * 20)]
    assert is_found(name, other, mode="EVAL")
    assert one(name, other, mode="TRAIN").status == "NotEvaluated"
    assert one(name, losses(*[1.0] * 20), use_losses_collection=False).status == "NotEvaluated"


def test_the_scatter_of_batches_is_no_rise() -> None:
    calm, noisy = [0.4] * 10, [0.1, 0.9] * 5
    assert is_found("LossNotDecreasing", losses(*[1.0] * 10, *calm, *[0.5] * 10))
    assert not is_found("LossNotDecreasing", losses(*[1.0] * 10, *calm, *noisy))


def epochs(*pairs: tuple[float, float]) -> list[Any]:
    return [
        step
        for train, validation in pairs
        for step in ({LOSS: np.float32(train)}, ("EVAL", {LOSS: np.float32(validation)}))
    ]


def test_a_validation_loss_may_be_a_tenth_above_and_get_better() -> None:
    name = "Overfit"
    assert not is_found(name, epochs((1, 1), (1, 1.09)))
    assert is_found(name, epochs((1, 1), (1, 1.11)))
    assert not is_found(name, epochs((1, 1), (1, 1.11), (1, 1)), patience=2)
    assert is_found(name, epochs((1, 1), (1, 1.11), (1, 1.11)), patience=2)
    assert not is_found(name, epochs((1, 2), (0.5, 1.9), (0.1, 1.8)))
    assert not is_found(name, epochs((1, 1), (1, 1.3)), ratio_threshold=0.31)
    assert one(name, epochs((1, 1), (1, 9)), start_step=2).status == "NotEvaluated"
    assert is_found(name, epochs((1, 1), (1, 1), (1, 9)), start_step=1)
    # The mean of a whole validation against that of what was trained before it.
    pairs = [("TRAIN", 1.0), ("TRAIN", 2.0), ("EVAL", 1.2), ("EVAL", 2.4)]
    steps = [(mode, {LOSS: np.float32(value)}) for mode, value in pairs]
    [finding] = one(name, epochs((9, 1)) + steps).findings
    assert (finding.moment.mode, finding.moment.step, finding.tensor) == ("EVAL", 2, LOSS)
    assert finding.numbers == "validation 1.8, training 1.5: 20 % above"


def test_a_loss_must_improve_by_delta_within_its_patience() -> None:
    name = "Overtraining"
    falling = [(1 - 0.1 * n, 1.0) for n in range(11)]
    assert not is_found(name, epochs(*falling[:10]))
    assert is_found(name, epochs(*falling))
    assert is_found(name, epochs(*[(1.0, 1.0)] * 6))
    assert not is_found(name, epochs(*[(1.0, 1.0)] * 5))
    [first, *rest] = one(name, epochs(*[(1.0, 0.5)] * 11)).findings
    assert (first.moment.mode, first.moment.step, first.tensor) == ("TRAIN", 5, "losses")
    assert first.numbers == "TRAIN: not below 1 by 0.01, 5 times in a row"
    assert rest[-1].numbers == "EVAL: not below 0.5 by 0.01, 10 times in a row"
    # A step of something else neither counts nor divides.
    other = [("PREDICT", {LOSS: np.float32(9)})]
    assert not is_found(name, [*losses(*[1.0] * 9), *other, *losses(*[1.0] * 9)])
    slow = [(1 - 0.009 * n, 1.0) for n in range(6)]
    assert is_found(name, epochs(*slow), delta=0.2)
    assert not is_found(name, epochs(*slow), delta=0.0)


def test_a_standstill_of_more_than_half_an_hour_is_a_stall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stalls(*gaps: float, **parameters: Any) -> bool:
        seconds = np.cumsum([1.7e9, *gaps]).tolist()
        with monkeypatch.context() as patch:
            patch.setattr("sagelight.debugging.records.time.time", lambda: seconds.pop(0))
            return is_found("StalledTraining", losses(*[1.0] * len(seconds)), **parameters)

    found = one("StalledTraining", losses(1.0))
    assert (found.status, found.reason) == ("NotEvaluated", NOTHING["StalledTraining"])
    assert not stalls(1800, 1799)
    assert stalls(1, 1801)
    assert stalls(1, 11, threshold=10.0)


def test_trials_are_similar_as_allclose_sees_it() -> None:
    other = str(leave_steps(Path("other"), [("TRAIN", still(1.0)[0])] * 2, WHOLE_COLLECTIONS))
    name = "SimilarAcrossRuns"
    assert not is_found(name, still(1 + 1e-6), other_trials=other)
    assert is_found(name, still(1, 1 + 1e-4), other_trials=other)
    [finding] = one(name, still(1, 1.5), other_trials=other).findings
    assert (finding.moment.step, finding.tensor) == (1, WEIGHT)
    assert finding.numbers == "differs by 5.00e-01"
    nans = str(leave_steps(Path("nans"), [("TRAIN", still(np.nan)[0])], WHOLE_COLLECTIONS))
    assert not is_found(name, still(np.nan), other_trials=nans)
    assert not is_found(name, still(1.0), other_trials=other, collection_names="gradients")
    assert not is_found(name, still(1.0), other_trials=other, tensor_regex="^gradient")
    for tensors in ([{WEIGHT: full(1.0, 2)}], [{RELU_OUT: full(1.0)}]):
        verdict = one(name, tensors, other_trials=other)
        assert verdict.reason == "the two trials have no tensor of the same step in common"
    assert one(name, still(1.0), other_trials="nowhere").status == "Error"


@pytest.mark.parametrize("name", RULES)
def test_each_rule_says_why_it_found_nothing_to_look_at(name: str) -> None:
    verdict = one(name, [])
    assert (verdict.status, verdict.points, verdict.found) == ("NotEvaluated", 0, 0)
    assert verdict.reason == NOTHING[name]


def test_all_evaluate_nothing_in_steps_of_something_else() -> None:
    folder = leave_steps(Path("trial"), [("TRAIN", {"other": full(1.0)})] * 20, {})
    found = verdicts(folder)
    statuses = {name: verdict.status for name, verdict in found.items()}
    # Whatever was written, it was written at some time.
    assert statuses.pop("StalledTraining") == "NoIssuesFound"
    assert set(statuses.values()) == {"NotEvaluated"}


def test_a_standstill_may_be_allowed_and_a_rise_not() -> None:
    allowed = {"diff_percent": -100.0}
    words = {"LossNotDecreasing": allowed}
    still = leave(lambda step, v: v.update({LOSS: np.float32(2.0)}))
    assert (
        verdicts(still, "LossNotDecreasing", **words)["LossNotDecreasing"].status == "NoIssuesFound"
    )
    rising = leave_trial(Path("rising"), [{LOSS: np.float32(1 + step)} for step in range(STEPS)])
    assert (
        verdicts(rising, "LossNotDecreasing", **words)["LossNotDecreasing"].status == "IssuesFound"
    )


def test_a_loss_of_validation_far_above_that_of_training_is_overfitting() -> None:
    folder = leave(validation=lambda step, loss: loss * (1.0 if step < 30 else 3.0))
    overfit = verdicts(folder, "Overfit")["Overfit"]
    assert overfit.status == "IssuesFound"
    assert overfit.points == STEPS // 10
    assert [finding.moment.step for finding in overfit.findings] == [3, 4, 5]
    assert verdicts(folder, "Overfit", Overfit={"patience": 4})["Overfit"].status == "NoIssuesFound"


def test_a_loss_that_no_longer_improves_is_overtraining() -> None:
    def stands(step: int, values: dict[str, Any]) -> None:
        values[LOSS] = np.float32(max(1.0, values[LOSS]))

    still = {"patience_train": 3, "patience_validation": 3}
    folder = leave(stands)
    assert verdicts(folder, "Overtraining")["Overtraining"].status == "NoIssuesFound"
    [found] = verdicts(folder, "Overtraining", Overtraining=still).values()
    assert found.status == "IssuesFound"


def test_what_was_not_looked_at_has_not_passed() -> None:
    folder = leave_trial(Path("trial"), [{WEIGHT: np.ones((2, 2), np.float32)}] * 5)
    found = verdicts(folder, "VanishingGradient", "LossNotDecreasing", "Overfit")
    assert {verdict.status for verdict in found.values()} == {"NotEvaluated"}
    assert "losses of both training and validation" in found["Overfit"].reason
    assert all(verdict.reason and not verdict.points for verdict in found.values())


def test_findings_are_counted_and_the_first_are_kept() -> None:
    found = verdicts(leave(FAULTS[0][1]), "VanishingGradient")["VanishingGradient"]
    assert found.found == found.points == STEPS
    assert [f.moment.step for f in found.findings] == list(range(MOST_FINDINGS))


@dataclass
class Breaks(Rule):
    """Raises in its third step."""

    means: ClassVar[str] = "nothing"
    advice: ClassVar[str] = "none"
    seen: int = 0

    def look(self, trial: Trial, moment: Moment) -> Look:
        self.seen += 1
        if self.seen == 3:
            raise ZeroDivisionError("by hand")
        return Look(points=1)


def test_tensors_are_chosen_by_collection_and_by_name() -> None:
    other = "other_output_0"
    collections = {"losses": [LOSS, other], "weights": [WEIGHT]}
    values = {LOSS: np.float32(1), other: np.float32(2), WEIGHT: full(1)}
    trial = Trial.open(leave_steps(Path("trial"), [("TRAIN", values)], collections))
    [moment] = trial.moments()
    assert chosen(trial, moment, "losses", None) == [LOSS, other]
    assert chosen(trial, moment, " weights , losses,", None) == [LOSS, WEIGHT, other]
    assert chosen(trial, moment, None, "^other", "weights") == [other]
    assert chosen(trial, moment, "weights", "^other") == [WEIGHT, other]
    assert chosen(trial, moment, None, None, "weights") == [WEIGHT]
    assert chosen(trial, moment, None, None) == []
    assert loss_at(trial, moment) == 1.5


def test_a_rule_that_raises_ends_alone() -> None:
    rules = [Breaks(), *build_rules(["VanishingGradient"], {})]
    first, second = Evaluation(Trial.open(leave()), rules).end()
    assert (first.status, second.status) == ("Error", "NoIssuesFound")
    assert first.reason.startswith("ZeroDivisionError: by hand (look, line ")


def test_a_trial_that_grows_is_in_progress() -> None:
    from sagelight.debugging.records import Place
    from sagelight.debugging.writer import TrialWriter

    rng = np.random.default_rng(0)
    writer = TrialWriter(Path("trial"))
    writer.collections({"gradients": [GRADIENT]})
    rule = build_rules(["VanishingGradient"], {})
    evaluation = Evaluation(Trial.open(Path("trial")), rule)
    assert evaluation.go_on()[0].status == "InProgress"
    for step in range(3):
        writer.write(Place(step, "TRAIN", step), {GRADIENT: healthy(step, rng)[GRADIENT]})
        [verdict] = evaluation.go_on()
        assert (verdict.status, verdict.points) == ("InProgress", step + 1)
    writer.write(Place(3, "TRAIN", 3), {GRADIENT: np.zeros((4, 3), np.float32)})
    assert evaluation.go_on()[0].status == "IssuesFound"
    assert evaluation.end()[0].points == 4


@pytest.mark.parametrize(
    ("names", "parameters", "message"),
    [
        (["VanishingGradients"], {}, f"there is no rule VanishingGradients. Did you mean VanishingGradient? There are {', '.join(RULES)}."),
        ([], {"xyz": {}}, f"there is no rule xyz. There are {', '.join(RULES)}."),
        ([], {"Overfit": {"patiense": 3}}, "Overfit has no parameter patiense. Did you mean patience or tensor_regex? It has tensor_regex, start_step, patience, ratio_threshold."),
        ([], {"Overfit": {"patience": "long"}}, "Overfit.patience=long: that is no int. The default is 1."),
        ([], {"Overfit": {"patience": True}}, "Overfit.patience=True: that is no int. The default is 1."),
        ([], {"Overfit": {"patience": 1.5}}, "Overfit.patience=1.5: that is no int. The default is 1."),
        ([], {"Overtraining": {"delta": "x"}}, "Overtraining.delta=x: that is no float. The default is 0.01."),
        ([], {"Overtraining": {"delta": False}}, "Overtraining.delta=False: that is no float. The default is 0.01."),
        ([], {"ExplodingTensor": {"only_nan": 1}}, "ExplodingTensor.only_nan=1: that is no bool. The default is False."),
        ([], {"Confusion": {"labels": 1}}, "Confusion.labels=1: that is no str. The default is labels."),
        ([], {"Overfit": 3}, "Overfit=3: its parameters are a mapping, as {Overfit: {tensor_regex: 1}}."),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(
    names: list[str], parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        build_rules(names, parameters)
    assert str(refused.value) == message


def test_a_parameter_takes_what_is_of_its_kind() -> None:
    typed = {
        "Overtraining": {"delta": 1, "patience_train": 2},
        "Overfit": {"tensor_regex": "loss"},
        "ExplodingTensor": {"only_nan": True},
        "Confusion": {"min_diag": None},
        "AllZero": None,
    }
    rules = {type(rule).__name__: rule for rule in build_rules([*typed], typed)}
    assert [*rules] == [*typed]
    for name, parameters in typed.items():
        assert {key: getattr(rules[name], key) for key in parameters or {}} == (parameters or {})
    assert [type(rule).__name__ for rule in build_rules([], {})] == [*RULES]


def test_a_training_is_watched_by_the_usual_rules_or_those_that_are_named() -> None:
    watching = {type(rule).__name__: rule for rule in build_usual(DebuggerSettings())}
    assert [*watching] == [*USUAL]
    for name, parameters in USUAL.items():
        wanted = {**AWS[name], **parameters}
        assert {key: getattr(watching[name], key) for key in wanted} == wanted
    named = DebuggerSettings(
        rules=["Overfit", "Confusion"],
        parameters={"Overfit": {"ratio_threshold": 0.5}},
        actions={"Overfit": "stop", "Confusion": "warn"},
    )
    overfit, confusion = build_usual(named)
    assert (overfit, confusion) == (
        RULES["Overfit"](ratio_threshold=0.5, patience=3),
        RULES["Confusion"](),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": {"Overfit": 3}}, "debugger.parameters.Overfit=3: type debugger.parameters.Overfit.PARAMETER=VALUE."),
        ({"actions": {"Confusion": "stop"}, "rules": ["Overfit", "AllZero"]}, "debugger.actions.Confusion: that rule does not watch. Watching are AllZero, Overfit."),
        ({"actions": {"Overfit": "cry"}}, "debugger.actions.Overfit=cry: must be one of warn, stop."),
    ],
)  # fmt: skip
def test_what_nothing_can_be_watched_by_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_usual(DebuggerSettings(**settings))
    assert str(refused.value) == message


def test_findings_are_kept_with_what_they_mean() -> None:
    evaluation = Evaluation(Trial.open(leave(FAULTS[0][1])), build_rules(["VanishingGradient"], {}))
    evaluation.end()
    content = findings(evaluation)
    [kept] = content["verdicts"]
    assert content["damaged"] == []
    assert (kept["name"], kept["status"], kept["found"]) == ("VanishingGradient", "IssuesFound", 60)
    assert kept["findings"][0]["tensor"] == GRADIENT
    assert (kept["means"], kept["advice"]) == (
        RULES["VanishingGradient"].means,
        RULES["VanishingGradient"].advice,
    )


@pytest.mark.parametrize("name", RULES)
def test_parameters_have_awss_names_and_defaults(name: str) -> None:
    found = parameters_of(RULES[name])
    assert found == AWS[name]
    assert all(type(value) is type(AWS[name][key]) for key, value in found.items())


# Amazon SageMaker Developer Guide, "List of Debugger Built-in Rules". A number that may have a fraction is a float here.
AWS: dict[str, dict[str, Any]] = {
    "VanishingGradient": {"threshold": 0.0000001},
    "ExplodingTensor": {"collection_names": None, "tensor_regex": None, "only_nan": False},
    "Overfit": {"tensor_regex": None, "start_step": 0, "patience": 1, "ratio_threshold": 0.1},
    "Overtraining": {"patience_train": 5, "patience_validation": 10, "delta": 0.01},
    "PoorWeightInitialization": {
        "activation_inputs_regex": ".*relu_input",
        "threshold": 10.0,
        "distribution_range": 0.001,
        "patience": 5,
        "steps": 10,
    },
    "LossNotDecreasing": {
        "collection_names": None,
        "tensor_regex": None,
        "use_losses_collection": True,
        "num_steps": 10,
        "diff_percent": 0.1,
        "increase_threshold_percent": 5.0,
        "mode": "GLOBAL",
    },
    "WeightUpdateRatio": {
        "num_steps": None,
        "large_threshold": 10.0,
        "small_threshold": 0.00000001,
        "epsilon": 0.000000001,
    },
    "UnchangedTensor": {
        "collection_names": None,
        "tensor_regex": None,
        "num_steps": 3,
        "rtol": 1e-05,
        "atol": 1e-08,
        "equal_nan": False,
    },
    "AllZero": {"collection_names": None, "tensor_regex": None, "threshold": 100.0},
    "DeadRelu": {
        "tensor_regex": ".*relu_output",
        "threshold_inactivity": 1.0,
        "threshold_layer": 50.0,
    },
    "SaturatedActivation": {
        "collection_names": None,
        "tensor_regex": ".*tanh_input|.*sigmoid_input",
        "threshold_tanh_min": -9.4999,
        "threshold_tanh_max": 9.4999,
        "threshold_sigmoid_min": -23.0,
        "threshold_sigmoid_max": 16.99999,
        "threshold_inactivity": 1.0,
        "threshold_layer": 50.0,
    },
    "TensorVariance": {
        "collection_names": None,
        "tensor_regex": None,
        "max_threshold": None,
        "min_threshold": None,
    },
    "ClassImbalance": {
        "threshold_imbalance": 10.0,
        "threshold_misprediction": 0.7,
        "samples": 500,
        "argmax": False,
        "labels_regex": ".*labels",
        "predictions_regex": ".*predictions",
    },
    "Confusion": {
        "category_no": None,
        "labels": "labels",
        "predictions": "predictions",
        "labels_collection": "labels",
        "predictions_collection": "predictions",
        "min_diag": 0.9,
        "max_off_diag": 0.1,
    },
    "StalledTraining": {
        "threshold": 1800.0,
        "stop_training_on_fire": False,
        "training_job_name_prefix": None,
    },
    "SimilarAcrossRuns": {"other_trials": None, "collection_names": None, "tensor_regex": None},
    "CheckInputImages": {
        "threshold_mean": 0.2,
        "threshold_samples": 500,
        "regex": ".*hybridsequential0_input_0",
        "channel": 1,
    },
}

OWN = """
from dataclasses import dataclass
from typing import ClassVar

from sagelight.debugging.rules.base import Look, Rule


@dataclass
class TooLarge(Rule):
    limit: float = 1.0
    means: ClassVar[str] = "a loss is too large"
    advice: ClassVar[str] = "Type less."

    def look(self, trial, moment):
        found = Look()
        for name in trial.names(collection="losses", moment=moment):
            value = float(trial.value(name, moment.mode, moment.step))
            found.judge(value > self.limit, moment, name, f"{value:.3g}")
        return found


class Nothing(Rule):
    pass


number = 1
"""


BELOW = (
    "A rule of your own is a class below sagelight.debugging.rules.base.Rule that Python can import; "
    "set PYTHONPATH to its folder."
)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of one's own that Python can import, and one that it cannot."""
    Path("mine_of_tests.py").write_text(OWN)
    Path("broken_of_tests.py").write_text("def (")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for name in ("mine_of_tests", "broken_of_tests"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("own")
def test_a_rule_of_ones_own_is_named_by_where_python_finds_it() -> None:
    name = "mine_of_tests.TooLarge"
    [verdict] = Evaluation(Trial.open(leave()), build_rules([name], {})).end()
    assert (verdict.name, verdict.status) == ("TooLarge", "IssuesFound")
    [rule] = build_rules([name], {name: {"limit": 5.0}})
    assert parameters_of(type(rule)) == {"limit": 1.0}
    assert Evaluation(Trial.open(Path("trial")), [rule]).end()[0].status == "NoIssuesFound"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine_of_nobody.Rule", f"there is no rule mine_of_nobody.Rule: No module named 'mine_of_nobody'. {BELOW}"),
        ("mine_of_tests.Missing", f"there is no rule mine_of_tests.Missing: module 'mine_of_tests' has no attribute 'Missing'. {BELOW}"),
        ("mine_of_tests.number", "mine_of_tests.number is no class below sagelight.debugging.rules.base.Rule."),
        ("mine_of_tests.Nothing", "mine_of_tests.Nothing lacks look, means, advice, which every rule has."),
        ("broken_of_tests.Rule", "there is no rule broken_of_tests.Rule: invalid syntax"),
    ],
)  # fmt: skip
def test_what_is_no_rule_of_ones_own_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_rules([name], {})
    assert str(refused.value).startswith(message)

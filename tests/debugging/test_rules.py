from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from debugging.trials import GRADIENT, LOSS, REDUCED, WEIGHT, healthy, leave_trial
from sagelight.debugging.rules.base import Look, Rule, Verdict
from sagelight.debugging.rules.catalogue import RULES, build_rules, parameters_of
from sagelight.debugging.rules.evaluate import MOST_FINDINGS, Evaluation
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


@pytest.mark.parametrize("reductions", [(), REDUCED])
def test_a_healthy_training_breaks_no_rule(reductions: tuple[str, ...]) -> None:
    found = verdicts(leave(reductions=reductions))
    evaluated = {name for name, verdict in found.items() if verdict.status == "NoIssuesFound"}
    # How far each weight has moved, and variance, are not among the reductions.
    assert found.keys() - evaluated == (
        {"WeightUpdateRatio", "TensorVariance"} if reductions else set()
    )
    assert all(found[name].points for name in evaluated)
    assert not any(verdict.found for verdict in found.values())


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
]


@pytest.mark.parametrize("reductions", [(), REDUCED])
@pytest.mark.parametrize(("names", "fault"), FAULTS, ids=[min(names) for names, _ in FAULTS])
def test_a_fault_is_found_by_its_rules_and_no_other(
    names: set[str], fault: Change, reductions: tuple[str, ...]
) -> None:
    found = verdicts(leave(fault, reductions=reductions))
    issues = {name for name, verdict in found.items() if verdict.status == "IssuesFound"}
    assert issues == names - ({"WeightUpdateRatio"} if reductions else set())
    assert all(found[name].findings[0].numbers for name in issues)


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
    folder = leave(validation=lambda step, loss: loss * (1.0 if step < 30 else 2.0))
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
        (["VanishingGradients"], {}, "there is no rule VanishingGradients. Did you mean VanishingGradient"),
        ([], {"Overfits": {}}, "there is no rule Overfits. Did you mean Overfit"),
        ([], {"Overfit": {"patiense": 3}}, "Overfit has no parameter patiense. Did you mean patience"),
        ([], {"Overfit": {"patience": "long"}}, "Overfit.patience=long: that is no int. The default is 1."),
        ([], {"Overfit": {"patience": True}}, "Overfit.patience=True: that is no int."),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(
    names: list[str], parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        build_rules(names, parameters)
    assert str(refused.value).startswith(message)


def test_parameters_have_awss_names_and_defaults() -> None:
    assert parameters_of(RULES["VanishingGradient"]) == {"threshold": 1e-7}
    assert parameters_of(RULES["Overfit"]) == {
        "tensor_regex": None,
        "start_step": 0,
        "patience": 1,
        "ratio_threshold": 0.1,
    }
    assert parameters_of(RULES["Overtraining"]) == {
        "patience_train": 5,
        "patience_validation": 10,
        "delta": 0.01,
    }

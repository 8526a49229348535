"""Asks rules about a trial, step by step, whether it still grows or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sagelight.debugging.rules.base import Look, Rule, Verdict
from sagelight.debugging.trial import Moment, Trial
from sagelight.rulebook import MOST_FINDINGS, raised


@dataclass
class Evaluation:
    """Rules on their way through a trial; a rule that raises ends with `Error`, and the rest go on."""

    trial: Trial
    rules: Sequence[Rule]
    _verdicts: dict[int, Verdict] = field(default_factory=dict)
    _seen: set[Moment] = field(default_factory=set)
    _over: bool = False

    def go_on(self) -> list[Verdict]:
        """Look at every step that is new; the verdicts so far."""
        self.trial.refresh()
        for moment in self.trial.moments():
            if moment not in self._seen:
                self._seen.add(moment)
                for number, rule in enumerate(self.rules):
                    self._ask(number, rule, moment)
        return self.verdicts()

    def end(self) -> list[Verdict]:
        """Look at what is complete only now; the verdicts that stand."""
        self.go_on()
        if not self._over:
            self._over = True
            for number, rule in enumerate(self.rules):
                self._ask(number, rule, None)
        return self.verdicts()

    def verdicts(self) -> list[Verdict]:
        """One for every rule, in their order."""
        return [self._settled(number, rule) for number, rule in enumerate(self.rules)]

    def _ask(self, number: int, rule: Rule, moment: Moment | None) -> None:
        verdict = self._verdict(number, rule)
        if verdict.status == "Error":
            return
        try:
            look = rule.last(self.trial) if moment is None else rule.look(self.trial, moment)
        except Exception as error:  # A rule may be anybody's; the others must not end with it.
            verdict.status = "Error"
            verdict.reason = raised(error)
            return
        _add(verdict, look)

    def _verdict(self, number: int, rule: Rule) -> Verdict:
        return self._verdicts.setdefault(number, Verdict(type(rule).__name__, "InProgress"))

    def _settled(self, number: int, rule: Rule) -> Verdict:
        verdict = self._verdict(number, rule)
        if verdict.status == "Error":
            return verdict
        if verdict.found:
            verdict.status = "IssuesFound"
        elif not self._over:
            verdict.status = "InProgress"
        elif verdict.points:
            verdict.status = "NoIssuesFound"
        else:
            verdict.status, verdict.reason = "NotEvaluated", rule.lacks(self.trial)
        return verdict


def _add(verdict: Verdict, look: Look) -> None:
    verdict.points += look.points
    verdict.found += len(look.findings)
    verdict.findings += look.findings[: MOST_FINDINGS - len(verdict.findings)]


def findings(evaluation: Evaluation) -> dict[str, Any]:
    """Verdicts as findings.json holds them, each with what it means and what to try."""
    pairs = zip(evaluation.verdicts(), evaluation.rules, strict=True)
    return {
        "verdicts": [
            asdict(verdict) | {"means": rule.means, "advice": rule.advice}
            for verdict, rule in pairs
        ],
        "damaged": evaluation.trial.damaged,
    }

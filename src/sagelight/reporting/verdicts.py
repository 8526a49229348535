"""What rules have come to, as findings.json holds it, for a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagelight.reporting.run import read_json, readable
from sagelight.reporting.text import plural
from sagelight.rulebook import FINDINGS

# In the order of the table.
STATUSES = ("IssuesFound", "Error", "NotEvaluated", "InProgress", "NoIssuesFound")


@dataclass(frozen=True)
class Found:
    """One finding: where, when (empty where it holds for the whole run), and the numbers in a sentence.

    Attributes:
        advice: what to try; empty where the rule says it.
        step: of the run; None where it holds for the whole run.
    """

    where: str
    when: str
    numbers: str
    advice: str = ""
    step: int | None = None


@dataclass(frozen=True)
class RuleRow:
    """A rule in the table.

    Attributes:
        number: counts the rules that found something, from 1; 0 for the others.
        findings: the first ones; `found` counts all.
    """

    name: str
    status: str
    points: int
    found: int
    findings: list[Found]
    reason: str
    means: str
    advice: str
    numbers: Mapping[str, Mapping[str, float]]
    number: int = 0


@dataclass(frozen=True)
class Findings:
    """The content of a findings.json: its verdicts, the worst first, and everything else in it."""

    rows: list[RuleRow]
    rest: dict[str, Any]

    @property
    def summary(self) -> str:
        """How many rules found something, in a sentence."""
        hits = sum(row.status == "IssuesFound" for row in self.rows)
        idle = sum(row.status == "NotEvaluated" for row in self.rows)
        failed = sum(row.status == "Error" for row in self.rows)
        verb = f"{hits or 'None'} of {plural(len(self.rows), 'rule')} found something"
        also = f"; {idle} {'was' if idle == 1 else 'were'} not evaluated" if idle else ""
        return verb + also + (f"; {failed} failed" if failed else "") + "."


def read_findings(folder: Path, finding: Callable[[Any], Found]) -> Findings | None:
    """The findings that lie in a folder; None where there are none yet.

    Args:
        finding: reads one of them.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / FINDINGS
    content = read_json(path)
    if content is None:
        return None
    with readable(path):
        rows = [_row(verdict, finding) for verdict in content.pop("verdicts")]
        rows.sort(key=lambda row: STATUSES.index(row.status))
    hits = [row for row in rows if row.found]
    numbered = [replace(row, number=place) for place, row in enumerate(hits, start=1)]
    return Findings([*numbered, *(row for row in rows if not row.found)], content)


def _row(verdict: dict[str, Any], finding: Callable[[Any], Found]) -> RuleRow:
    return RuleRow(
        name=str(verdict["name"]),
        status=str(verdict["status"]),
        points=int(verdict["points"]),
        found=int(verdict["found"]),
        findings=[finding(each) for each in verdict["findings"]],
        reason=str(verdict["reason"]),
        means=str(verdict.get("means", "")),
        advice=str(verdict.get("advice", "")),
        numbers={title: dict(each) for title, each in verdict.get("numbers", {}).items()},
    )

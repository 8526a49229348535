"""What was checked, what was set, and what would repeat it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from sagelight.reporting.headline import Fact
from sagelight.reporting.run import Run
from sagelight.reporting.text import plural, value

SEVERITIES = ("error", "warning", "note")
MOST_FILES = 20


@dataclass(frozen=True)
class ClassCounts:
    label: str
    counts: list[int]


@dataclass(frozen=True)
class Problem:
    """A finding of the data check; `more` files are not listed."""

    severity: str
    code: str
    message: str
    files: list[str]
    more: int


@dataclass(frozen=True)
class DataCheck:
    """check.json as the page shows it; `counts` of a class are in the order of `splits`."""

    fingerprint: str
    full: bool
    splits: list[str]
    rows: list[ClassCounts]
    totals: list[int]
    problems: list[Problem]
    verdict: str
    mismatch: bool

    @property
    def most(self) -> list[int]:
        """The largest count of each split, at least 1."""
        return [
            max([1, *column]) for column in zip(*(row.counts for row in self.rows), strict=True)
        ]


def data_check(run: Run) -> DataCheck | None:
    """What check.json says, or None where nothing was checked: then it has a fingerprint at most."""
    if run.check is None or "counts" not in run.check:
        return None
    counts: dict[str, dict[str, int]] = run.check["counts"]
    labels = sorted({label for split in counts.values() for label in split})
    problems = [_problem(entry) for entry in run.check["problems"]]
    problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    return DataCheck(
        fingerprint=run.check["fingerprint"],
        full=run.check["full"],
        splits=list(counts),
        rows=[
            ClassCounts(name, [split.get(name, 0) for split in counts.values()]) for name in labels
        ],
        totals=[sum(split.values()) for split in counts.values()],
        problems=problems,
        verdict=_verdict(problems),
        mismatch=run.bundle is not None and run.bundle.fingerprint != run.check["fingerprint"],
    )


def _problem(entry: dict[str, Any]) -> Problem:
    files = entry["files"]
    more = max(entry["count"], len(files)) - len(files[:MOST_FILES])
    return Problem(
        entry["severity"], entry["code"], entry["message"], files[:MOST_FILES], more if files else 0
    )


def _verdict(problems: list[Problem]) -> str:
    found = [problem.severity for problem in problems]
    parts = [
        plural(found.count(severity), severity) for severity in SEVERITIES if severity in found
    ]
    return ", ".join(parts) if parts else "nothing to complain of"


def settings(config: dict[str, Any]) -> dict[str, list[Fact]]:
    """The configuration by group; settings outside any group come first, under the name `run`."""
    groups: dict[str, list[Fact]] = {"run": []}
    for name, entry in config.items():
        if isinstance(entry, dict):
            groups[name] = _flat(entry)
        else:
            groups["run"].append(Fact(name, value(entry)))
    return {name: facts for name, facts in groups.items() if facts}


def _flat(entries: dict[str, Any], prefix: str = "") -> list[Fact]:
    facts = []
    for name, entry in entries.items():
        if isinstance(entry, dict):
            facts += _flat(entry, f"{prefix}{name}.")
        else:
            facts.append(Fact(prefix + name, value(entry)))
    return facts


def environment(run: Run) -> list[Fact]:
    """Where it ran: the provenance but for the command and the versions."""
    if run.bundle is None:
        return []
    return _flat(
        {k: v for k, v in run.bundle.provenance.items() if k not in ("command", "versions")}
    )


def versions(run: Run) -> list[Fact]:
    """The packages it ran with."""
    found = run.bundle.provenance.get("versions", {}) if run.bundle else {}
    return _flat(dict(sorted(found.items())))


def commands(run: Run) -> dict[str, str]:
    """What to type to repeat the run, by what it does."""
    typed = run.bundle.provenance.get("command") if run.bundle else None
    found = {}
    if typed:
        words = typed if isinstance(typed, str) else shlex.join(typed)
        found["As it was typed"] = words
    if run.config:
        path = shlex.quote(str(run.folder / "config.yaml"))
        found["From its saved configuration"] = f"python launch/local.py --config-from {path}"
    return found

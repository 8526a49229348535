"""Where the time of a run went: its profiler's rules, its steps, and how busy the machine was."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sagelight.profiling.findings import phases
from sagelight.profiling.profile import FOLDER, Profile, Worker
from sagelight.profiling.rules.catalogue import RULES
from sagelight.reporting.curves import BOTTOM, TOP
from sagelight.reporting.line_chart import Chart, Frame
from sagelight.reporting.run import readable
from sagelight.reporting.step_timeline import NAMES, step_timeline
from sagelight.reporting.svg import Scale, element
from sagelight.reporting.text import plural
from sagelight.reporting.training_time import TrainingTime
from sagelight.reporting.utilisation import MOST_NODES, utilisation
from sagelight.reporting.verdicts import Findings, Found, RuleRow, read_findings
from sagelight.rulebook import FINDINGS

USAGE = "OverallSystemUsage"
_BETWEEN = {"validation": "validation", "checkpoint": "checkpoints"}


@dataclass(frozen=True)
class Share:
    """What a phase has taken of all the time that was measured."""

    name: str
    css: str
    seconds: float
    share: float


@dataclass(frozen=True)
class ProfilerPart:
    """The section about time.

    Attributes:
        findings: None where the training has not ended.
        warnings: what a reader must know before the table, in sentences.
        shares: of all processes together, in the order of a step.
        steps: that were measured, in words; empty where none were.
        usage: percentiles by metric.
        notes: what the charts leave out or cannot know, in sentences.
    """

    findings: Findings | None
    warnings: list[str]
    shares: list[Share]
    steps: str
    charts: list[Chart]
    usage: Mapping[str, Mapping[str, float]]
    notes: list[str]


def profiler_part(run: Path) -> ProfilerPart | None:
    """The section of a run; None where nobody measured it.

    Raises:
        RunError: its findings.json is damaged.
    """
    folder = run / FOLDER
    if not folder.is_dir():
        return None
    findings = _explained(read_findings(folder, _found))
    told = findings.rest if findings else {}
    with readable(folder / FINDINGS):
        warnings = [str(told["stopped"])] if told.get("stopped") else []
        missing = [str(each) for each in told.get("missing", ())]
    profile = Profile.read(folder)
    numbers = [row.numbers for row in findings.rows if row.name == USAGE] if findings else []
    return ProfilerPart(
        findings,
        warnings,
        _shares(phases(profile)),
        _steps(profile),
        _charts(profile),
        numbers[0] if numbers else {},
        [*missing, *_notes(profile)],
    )


def _found(entry: Any) -> Found:
    advice = " ".join(str(entry[name]) for name in ("advice", "gain") if entry[name])
    return Found(str(entry["where"]), "", str(entry["numbers"]), advice)


def _explained(findings: Findings | None) -> Findings | None:
    """With what the rules mean, which this file does not say."""
    return findings and replace(findings, rows=[_with_meaning(row) for row in findings.rows])


def _with_meaning(row: RuleRow) -> RuleRow:
    if row.name == USAGE and not row.reason:
        return replace(row, reason="it finds nothing wrong; its figures are below this table")
    return replace(row, means=RULES[row.name].means) if row.name in RULES else row


def _shares(seconds: Mapping[str, float]) -> list[Share]:
    total = sum(seconds.values())
    names = {**NAMES, **_BETWEEN}
    return [
        Share(names.get(name, name), name, each, each / total)
        for name, each in seconds.items()
        if each > 0
    ]


def _steps(profile: Profile) -> str:
    count = sum(len(worker.steps) for worker in profile.workers.values())
    of = f" of {plural(len(profile.workers), 'process', 'processes')}"
    return plural(count, "step") + (of if len(profile.workers) > 1 else "") if count else ""


def _charts(profile: Profile) -> list[Chart]:
    """Steps and utilisation over the same time."""
    time = TrainingTime.of(profile)
    if time is None or time.total <= 0:
        return []
    name, unit = time.unit
    behind = partial(_continued, [each / unit for each in time.continued])
    frame = Frame(0.0, time.total / unit, f"{name} of training", behind)
    first = next(iter(profile.workers.values()), Worker())
    steps = step_timeline(first.steps, time, frame)
    return ([steps] if steps else []) + utilisation(profile, time, frame)


def _continued(places: list[float], scale: Scale) -> list[ET.Element]:
    parts = [
        element("line", class_="best", x1=scale(x), x2=scale(x), y1=TOP, y2=BOTTOM) for x in places
    ]
    if places:
        parts.append(element("text", "continued", class_="mark mid", x=scale(places[0]), y=TOP - 6))
    return parts


def _notes(profile: Profile) -> list[str]:
    notes = []
    if any(start.device == "cuda" for start in profile.starts):
        notes.append(
            "a GPU works later than it is told to: what it takes for backward may show as optimizer"
        )
    if len(profile.workers) > 1:
        notes.append(f"the steps are drawn of the first of {len(profile.workers)} processes")
    if len(profile.nodes) > MOST_NODES:
        notes.append(f"drawn are the first {MOST_NODES} of {len(profile.nodes)} machines")
    if profile.damaged:
        notes.append(f"{plural(profile.damaged, 'line')} of the measurements could not be read")
    return notes

"""Asks rules about a profile, and keeps what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sagelight.files import write_json
from sagelight.profiling.clock import PHASES
from sagelight.profiling.profile import Profile
from sagelight.profiling.rules.base import ProfilerRule, Verdict
from sagelight.rulebook import FINDINGS, MOST_FINDINGS, raised


def evaluate(profile: Profile, rules: Sequence[ProfilerRule]) -> list[Verdict]:
    """A verdict for each rule, in their order; one that raises has the verdict `Error`."""
    return [_verdict(profile, rule) for rule in rules]


def phases(profile: Profile) -> dict[str, float]:
    """Seconds of all processes by phase of a step, and of validations and checkpoints."""
    found = dict.fromkeys(PHASES, 0.0)
    for worker in profile.workers.values():
        for step in worker.steps:
            for name in PHASES:
                found[name] += getattr(step.times, name)
        for kind, seconds in worker.between.items():
            found[kind] = found.get(kind, 0.0) + sum(seconds)
    return {name: round(seconds, 3) for name, seconds in found.items()}


def write_findings(
    folder: Path, profile: Profile, verdicts: Iterable[Verdict], stopped: str, missing: list[str]
) -> dict[str, Any]:
    """Leave findings.json in the profiler's folder.

    Args:
        stopped: why measuring ended before the training did; empty where it did not.
        missing: what this machine does not let anybody measure.

    Raises:
        OSError: it could not be written.
    """
    content = {
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "phases": phases(profile),
        "steps": sum(len(worker.steps) for worker in profile.workers.values()),
        "stopped": stopped,
        "missing": missing,
        "damaged": profile.damaged,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FINDINGS, content)
    return content


def as_sentences(verdicts: Iterable[Verdict]) -> list[str]:
    """One line for each finding, and for each rule that raised."""
    lines = []
    for verdict in verdicts:
        lines += [f"profiler: {verdict.name}: {finding}" for finding in verdict.findings]
        if verdict.status == "Error":
            lines.append(f"profiler: {verdict.name}: {verdict.reason}")
    return lines


def _verdict(profile: Profile, rule: ProfilerRule) -> Verdict:
    name = type(rule).__name__
    try:
        found = rule.judge(profile)
    except Exception as error:  # A rule may be anybody's; the others must not end with it.
        return Verdict(name, "Error", reason=raised(error))
    kept, numbers = found.findings[:MOST_FINDINGS], found.numbers
    if found.findings:
        count = len(found.findings)
        return Verdict(name, "IssuesFound", found.points, count, kept, numbers=numbers)
    if found.reason or not found.points:
        reason = found.reason or "there was nothing to judge"
        return Verdict(name, "NotEvaluated", found.points, reason=reason, numbers=numbers)
    return Verdict(name, "NoIssuesFound", found.points, numbers=numbers)

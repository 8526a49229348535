"""How the study's charts draw a trial: its dot, its path, the words that a pointer over it shows."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from sagelight.reporting.study_objective import Objective
from sagelight.reporting.svg import element
from sagelight.tuning.trials import Trial, short

LONGEST = 40
CSS = {"Completed": "done", "Stopped": "early", "Failed": "failed", "InProgress": "early"}
WORDS = {
    "Completed": "completed",
    "Stopped": "stopped early",
    "Failed": "failed",
    "InProgress": "in progress",
}


@dataclass(frozen=True)
class Chart:
    """One picture; `note` says what stands elsewhere than it should, or is empty."""

    title: str
    svg: Markup
    note: str = ""


def called(trial: Trial) -> str:
    """`trial 7`, or the name of a training job as it is."""
    return f"trial {trial.name}" if trial.name.isdigit() else trial.name


def cut(text: str, most: int = LONGEST) -> str:
    """A text of at most so many characters, without its middle where it is longer."""
    if len(text) <= most:
        return text
    head = most // 2
    return f"{text[:head]}…{text[len(text) - (most - head - 1) :]}"


def words(trial: Trial, objective: Objective, names: Iterable[str] | None = None) -> str:
    """A trial in one line: name, state, objective, and its values of these names or of all."""
    wanted = trial.values if names is None else names
    entries = [f"{name}={cut(short(trial.values[name]))}" for name in wanted]
    state = "" if trial.state == "Completed" else f" ({WORDS[trial.state]})"
    head = f"{called(trial)}{state}: {objective.write(trial.objective)}"
    return ", ".join([head, *entries])


def dot(trial: Trial, x: float, y: float, label: str, best: bool) -> ET.Element:
    css, radius = ("winner", 5.0) if best else (CSS[trial.state], 3.2)
    return element("circle", element("title", label), class_=f"dot {css}", cx=x, cy=y, r=radius)


def cross(trial: Trial, x: float, y: float, label: str) -> ET.Element:
    """Stands where a trial without a score would."""
    d = f"M{x - 3.2:.1f} {y - 3.2:.1f}l6.4 6.4m0-6.4l-6.4 6.4"
    return element("path", element("title", label), class_=f"cross {CSS[trial.state]}", d=d)

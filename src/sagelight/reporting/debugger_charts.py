"""Losses and gradients over the steps of a run, with marks where rules found something."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from sagelight.debugging.rules.reading import EVAL, TRAIN, at, loss_at
from sagelight.debugging.trial import Moment, Trial
from sagelight.reporting.line_chart import MOST_POINTS, Chart, Frame, Line, Points, line_chart
from sagelight.reporting.line_chart import thinned as means
from sagelight.reporting.rule_marks import Mark, drawn

# Reading a tensor takes a fraction of a millisecond.
MOST_LOSSES = 3000
_LOOKS = 5
_CSS = {"first": "one", "middle": "two", "last": "three", "smallest": "four"}
T = TypeVar("T")


def charts(trial: Trial, marks: Sequence[Mark]) -> list[Chart]:
    """Loss and gradients, as far as the trial has them."""
    moments = trial.moments()
    if not moments:
        return []
    steps = [moment.global_step for moment in moments] + [mark.step for mark in marks]
    frame = Frame(min(steps), max(steps), "step", partial(drawn, marks))
    found = [
        line_chart("Loss", _losses(trial, moments), frame),
        line_chart("Mean magnitude of gradients", _gradients(trial, moments), frame, log=True),
    ]
    return [chart for chart in found if chart]


def _losses(trial: Trial, moments: Sequence[Moment]) -> list[Line]:
    lines = []
    for mode, css, name in ((TRAIN, "raw", "training"), (EVAL, "val", "validation")):
        of_mode = [moment for moment in moments if moment.mode == mode]
        points = [
            (float(moment.global_step), loss)
            for moment in evenly(of_mode, MOST_LOSSES)
            if (loss := loss_at(trial, moment)) is not None
        ]
        lines.append(Line(css, name, means(points)))
    return [line for line in lines if line.points]


def _gradients(trial: Trial, moments: Sequence[Moment]) -> list[Line]:
    """The first layer, the middle one, the last, and the one whose gradients are smallest."""
    looks = {moment: _gradients_of(trial, moment) for moment in moments if moment.mode == TRAIN}
    looks = {moment: names for moment, names in looks.items() if names}
    if not looks:
        return []
    layers = max(looks.values(), key=len)
    middle = layers[len(layers) // 2]
    chosen = {middle: "middle", layers[-1]: "last", layers[0]: "first"}
    chosen = {name: chosen[name] for name in layers if name in chosen}
    least = _smallest(trial, evenly(list(looks), _LOOKS), layers)
    words = dict(chosen)
    if least is not None:
        words[least] = f"{chosen[least]}, smallest" if least in chosen else "smallest"
    lines = []
    for name, word in words.items():
        at_steps = evenly([moment for moment in looks if name in looks[moment]], MOST_POINTS)
        css = _CSS[chosen.get(name, "smallest")]
        lines.append(Line(css, f"{word}: {_layer(name)}", _sizes(trial, name, at_steps)))
    return lines


def _gradients_of(trial: Trial, moment: Moment) -> list[str]:
    """Gradients of a step in the order of the network; biases go with their weights, and are left out."""
    here = set(trial.names(collection="gradients", moment=moment))
    names = [name for name in trial.written(moment) if name in here] if here else []
    return [name for name in names if not name.endswith("bias")] or names


def _sizes(trial: Trial, name: str, moments: Sequence[Moment]) -> Points:
    return [
        (float(moment.global_step), size)
        for moment in moments
        if (size := at(trial, name, moment, "abs_mean")) is not None
    ]


def _smallest(trial: Trial, moments: Sequence[Moment], layers: Sequence[str]) -> str | None:
    sizes = {
        name: statistics.median(known)
        for name in layers
        if (known := [y for _, y in _sizes(trial, name, moments) if math.isfinite(y)])
    }
    return min(sizes, key=sizes.__getitem__) if sizes else None


def _layer(name: str) -> str:
    """`gradient/Network_backbone.conv1.weight` is `backbone.conv1`."""
    bare = re.sub(r"^[^_./]+_", "", name.removeprefix("gradient/"))
    return bare.removesuffix(".weight")


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]

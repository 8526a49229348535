"""What a study may try: Hydra's sweep grammar, read into ranges that any tuner understands.

Every value travels as Hydra text, so a trial is the ordinary override `name=text` and parses to the object that
the sweep meant: lists, null and quoted commas included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    RangeSweep,
)

from sagelight.config.grammar import hydra_text, quoted_text
from sagelight.config.groups import GROUPS, group_choices
from sagelight.config.schema import Config
from sagelight.config.setting import hints, walk
from sagelight.errors import ConfigError

Scale = Literal["auto", "log", "reverse_log"]
# They say where a run happens or what it is measured by, not what it computes.
NOT_TUNABLE = ("name", "run_dir", "resume", "check", "logger", "hpo", "cloud", "experiment")

# Of a range by other steps than one.
MOST_VALUES = 1000


@dataclass(frozen=True)
class Continuous:
    """Any number in [low, high]."""

    name: str
    low: float
    high: float
    scale: Scale = "auto"


@dataclass(frozen=True)
class Integer:
    """Any whole number in [low, high], both inclusive."""

    name: str
    low: int
    high: int
    scale: Scale = "auto"

    def values(self) -> range:
        return range(self.low, self.high + 1)


@dataclass(frozen=True)
class Categorical:
    """One of some values, each written as Hydra text."""

    name: str
    values: tuple[str, ...]


Dimension = Continuous | Integer | Categorical


@dataclass(frozen=True)
class Space:
    """The settings that a study varies, in the order in which they were written."""

    dimensions: tuple[Dimension, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dimension.name for dimension in self.dimensions)

    def samples(self) -> list[str]:
        """Overrides `name=text` that reach every bound and every choice, to be checked before anybody pays."""
        return [f"{d.name}={text}" for d in self.dimensions for text in _extremes(d)]


def sweep_words(space: Space) -> list[str]:
    """The space as overrides in Hydra's sweep grammar; `read_space` makes the same of them."""
    return [f"{dimension.name}={_sweep(dimension)}" for dimension in space.dimensions]


def _sweep(dimension: Dimension) -> str:
    if isinstance(dimension, Categorical):
        if len(dimension.values) > 1:
            # choice() takes no null, and loses the quotes that tell a text from a number.
            return ",".join(dimension.values)
        # A list of one is no sweep.
        return f"choice({quoted_text(dimension.values[0])})"
    if isinstance(dimension, Integer):
        swept = f"range({dimension.low},{dimension.high + 1})"
    else:
        swept = f"interval({dimension.low!r},{dimension.high!r})"
    return swept if dimension.scale == "auto" else f"tag({dimension.scale},{swept})"


def read_space(sweeps: Iterable[Override], fixed: Iterable[str] = ()) -> Space:
    """Translate parsed sweeps; a later one of the same setting replaces an earlier one.

    Args:
        sweeps: overrides whose value is a choice, a range or an interval.
        fixed: names that the command line sets to one value, which takes them out of the space.

    Raises:
        ConfigError: naming the sweep that no tuner could be given.
    """
    found: dict[str, Dimension] = {}
    for sweep in sweeps:
        found.pop(sweep.key_or_group, None)
        found[sweep.key_or_group] = _dimension(sweep)
    for name in fixed:
        found.pop(name, None)
    _refuse_overlap(found)
    return Space(tuple(found.values()))


def _dimension(sweep: Override) -> Dimension:
    _refuse_untunable(sweep)
    value = sweep.value()
    if isinstance(value, IntervalSweep):
        return _interval(sweep, value)
    if isinstance(value, RangeSweep):
        return _range(sweep, value)
    if isinstance(value, Glob):
        return _categorical(sweep, value.filter(list(group_choices(sweep.key_or_group))))
    assert isinstance(value, ChoiceSweep)
    if value.tags:
        raise _refusal(sweep, "a list of values has no scale; remove the tag")
    return _categorical(sweep, [_text(sweep, item) for item in value.list])


def _interval(sweep: Override, value: IntervalSweep) -> Continuous | Integer:
    low, high = _finite_bounds(sweep, value.start, value.end)
    scale = _scale(sweep, value.tags, low, high)
    if isinstance(value.start, int) and isinstance(value.end, int):
        return Integer(sweep.key_or_group, int(low), int(high), scale)
    if float not in hints(Config, sweep.key_or_group):
        first, last = math.ceil(low), math.floor(high)
        raise _refusal(
            sweep,
            f"this setting takes whole numbers, and interval() gives fractions. "
            f"Type {sweep.key_or_group}=range({first},{last + 1})",
        )
    return Continuous(sweep.key_or_group, low, high, scale)


def _range(sweep: Override, value: RangeSweep) -> Integer | Categorical:
    if value.step == 0:
        raise _refusal(sweep, "a range with step 0 never ends")
    if not all(map(_is_finite, (value.start, value.stop, value.step))):
        raise _refusal(sweep, "both ends and the step must be finite")
    found = value.range()
    numbers = list(islice(found, MOST_VALUES + 1))
    if not numbers:
        raise _refusal(sweep, "the range is empty; its end is not part of it")
    if isinstance(found, range) and abs(value.step) == 1 and len(numbers) > 1:
        low, high = sorted((found[0], found[-1]))
        return Integer(sweep.key_or_group, low, high, _scale(sweep, value.tags, low, high))
    if len(numbers) > MOST_VALUES:
        raise _refusal(sweep, f"it has more than {MOST_VALUES:,} values; type interval()")
    if value.tags:
        raise _refusal(
            sweep, "only a range by steps of one has a scale; remove the tag or the step"
        )
    return _categorical(sweep, [str(number) for number in numbers])


def _categorical(sweep: Override, texts: Sequence[str]) -> Categorical:
    if not texts:
        raise _refusal(sweep, "no choice matches")
    twice = next((text for text in texts if list(texts).count(text) > 1), None)
    if twice is not None:
        raise _refusal(sweep, f"{twice} stands there twice")
    return Categorical(sweep.key_or_group, tuple(texts))


def _refuse_untunable(sweep: Override) -> None:
    name = sweep.key_or_group
    if sweep.is_hydra_override():
        raise _refusal(sweep, "Hydra's own settings cannot be tuned")
    if sweep.package is not None:
        raise _refusal(sweep, f"type it without the package: {name}=...")
    if name.split(".")[0] in NOT_TUNABLE or name == "data" or name == "data.root":
        raise _refusal(sweep, "this does not change what a network learns, so it is not tuned")
    if name not in GROUPS and name not in {known for known, _ in walk(Config)}:
        raise _refusal(sweep, "there is no such setting")
    if isinstance(sweep.value(), Glob) and name not in GROUPS:
        raise _refusal(sweep, f"glob() works for the groups only: {', '.join(GROUPS)}")
    if name in GROUPS and isinstance(sweep.value(), (IntervalSweep, RangeSweep)):
        raise _refusal(sweep, f"choose among {', '.join(group_choices(name))}")


def _refuse_overlap(found: dict[str, Dimension]) -> None:
    for name in found:
        group = name.split(".")[0]
        if "." in name and group in found:
            raise ConfigError(
                f"{name} and {group} cannot both be tuned: each choice of {group} may set {name}. "
                "Keep one of them."
            )


def _scale(sweep: Override, tags: set[str], low: float, high: float) -> Scale:
    if not tags or tags == {"linear"}:
        return "auto"
    if tags == {"log"}:
        if low <= 0:
            raise _refusal(sweep, "a logarithmic scale starts above 0")
        return "log"
    if tags == {"reverse_log"}:
        if low < 0 or high >= 1:
            raise _refusal(sweep, "a reversed logarithmic scale lies within 0 and 1, without 1")
        return "reverse_log"
    raise _refusal(sweep, "the tags that mean something are log and reverse_log, one of them")


def _finite_bounds(sweep: Override, low: float | None, high: float | None) -> tuple[float, float]:
    assert low is not None
    assert high is not None
    if not (_is_finite(low) and _is_finite(high)):
        raise _refusal(sweep, "both ends must be finite")
    if low >= high:
        raise _refusal(sweep, "the lower end comes first, and the ends differ")
    return low, high


def _is_finite(number: float | None) -> bool:
    try:
        return number is not None and math.isfinite(number)
    except OverflowError:
        # A whole number beyond every float.
        return False


def _text(sweep: Override, value: Any) -> str:
    if any(isinstance(leaf, float) and not math.isfinite(leaf) for leaf in _flat(value)):
        raise _refusal(sweep, "every value must be finite")
    return hydra_text(value)


def _flat(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        return chain.from_iterable(_flat(item) for item in value)
    if isinstance(value, dict):
        return chain.from_iterable(_flat(item) for item in value.values())
    return (value,)


def _extremes(dimension: Dimension) -> tuple[str, ...]:
    if isinstance(dimension, Categorical):
        return dimension.values
    return (repr(dimension.low), repr(dimension.high))


def _refusal(sweep: Override, why: str) -> ConfigError:
    return ConfigError(f"{sweep.input_line} cannot be tuned: {why}.")

"""One setting: its default, the sentence that explains it everywhere, and the values it may take."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

AUTO = "auto"


@dataclass(frozen=True)
class Limits:
    """What a value must satisfy beyond its type; `auto` and null are judged by the type alone."""

    choices: tuple[str, ...] = ()
    above: float | None = None
    least: float | None = None
    most: float | None = None

    def complaint(self, value: Any) -> str | None:
        """Why `value` is outside the limits, as the end of a sentence, or None when it is inside."""
        if value is None:
            return None
        if isinstance(value, str):
            if self.choices and value not in self.choices:
                return f"must be one of {', '.join(self.choices)}"
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if value in (math.inf, -math.inf):
            return "must be a finite number"
        if self.above is not None and not value > self.above:
            return f"must be greater than {self.above:g}"
        if self.least is not None and not value >= self.least:
            return f"must be at least {self.least:g}"
        if self.most is not None and not value <= self.most:
            return f"must be at most {self.most:g}"
        return None


def setting(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] = (),
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A dataclass field for a setting.

    Args:
        default: the value when nobody says otherwise; a list or mapping is copied for each instance.
        help: the one sentence that `--help` and the README's table show.
        choices: the words a text value may be.
        above, least, most: bounds of a number: exclusive lower, inclusive lower, inclusive upper.
    """
    metadata = {"help": help, "limits": Limits(tuple(choices), above, least, most)}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def group(factory: type) -> Any:
    """A dataclass field that holds a whole group of settings."""
    return dataclasses.field(default_factory=factory)


def is_group(field: dataclasses.Field[Any]) -> bool:
    return dataclasses.is_dataclass(field.default_factory)


def walk(schema: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Every setting below a dataclass (type or instance), as (dotted name, field), in order."""
    for name, field in _settings(schema if isinstance(schema, type) else type(schema)):
        yield prefix + name, field


@cache
def _settings(schema: type) -> tuple[tuple[str, dataclasses.Field[Any]], ...]:
    """What `walk` gives: a configuration is composed with hundreds of looks at it."""
    found: list[tuple[str, dataclasses.Field[Any]]] = []
    for field in dataclasses.fields(schema):
        if is_group(field):
            found += walk(field.default_factory, field.name + ".")
        else:
            found.append((field.name, field))
    return tuple(found)


def holds_entries(field: dataclasses.Field[Any]) -> bool:
    """Whether a setting is a mapping, whose keys the person chooses."""
    factory = field.default_factory
    return factory is not dataclasses.MISSING and isinstance(factory(), dict)


def knows(schema: Any, dotted: str) -> bool:
    """Whether there is such a setting, or an entry of one that is a mapping, as `debugger.parameters.Overfit`."""
    names, mappings = _names(schema if isinstance(schema, type) else type(schema))
    return dotted in names or dotted.startswith(mappings)


def holder(schema: type, dotted: str) -> str:
    """The setting that a dotted name stands for: itself, or the mapping that it is an entry of."""
    _, mappings = _names(schema)
    return next((each[:-1] for each in mappings if dotted.startswith(each)), dotted)


@cache
def _names(schema: type) -> tuple[frozenset[str], tuple[str, ...]]:
    """All settings, and what the entries of those that are mappings begin with."""
    settings = _settings(schema)
    mappings = tuple(f"{name}." for name, field in settings if holds_entries(field))
    return frozenset(name for name, _ in settings), mappings


def hints(schema: type, dotted: str) -> tuple[Any, ...]:
    """The types that the setting at a dotted name may have."""
    hint: Any = schema
    for part in dotted.split("."):
        hint = _types(hint)[part]
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


@cache
def _types(schema: type) -> dict[str, Any]:
    return typing.get_type_hints(schema)


def lookup(config: Any, dotted: str) -> Any:
    """The value at a dotted name of a settings instance."""
    for part in dotted.split("."):
        config = getattr(config, part)
    return config


def assign(config: Any, dotted: str, value: Any) -> None:
    """Set the value at a dotted name of a settings instance."""
    *parents, last = dotted.split(".")
    for part in parents:
        config = getattr(config, part)
    setattr(config, last, value)

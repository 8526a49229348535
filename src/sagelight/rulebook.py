"""What the debugger's rules and the profiler's share: their verdicts, and building them by name."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from sagelight.errors import ConfigError, first_line, suggestion

# SageMaker's, and one more: a rule that found nothing to look at has not passed.
Status = Literal["NoIssuesFound", "IssuesFound", "Error", "InProgress", "NotEvaluated"]
# Where verdicts lie in the folder of whoever judged, and how many findings of a rule are kept.
FINDINGS, MOST_FINDINGS = "findings.json", 20
F = TypeVar("F")
R = TypeVar("R")


@dataclass
class Verdict(Generic[F]):
    """What a rule has come to.

    Attributes:
        points: values that it has judged.
        findings: the first of them, as many as whoever evaluates keeps; `found` counts all.
        reason: why it was not evaluated, or what it raised.
    """

    name: str
    status: Status
    points: int = 0
    found: int = 0
    findings: list[F] = field(default_factory=list)
    reason: str = ""


def build_named(
    catalogue: Mapping[str, type[R]], names: Sequence[str], parameters: Mapping[str, Any]
) -> list[R]:
    """The rules of these names, all of the catalogue where none is named.

    Args:
        parameters: by rule and parameter, `{"Overfit": {"patience": 3}}`.

    Raises:
        ConfigError: an unknown rule or parameter, with the nearest known names, or a value of another type.
    """
    for name in (*names, *parameters):
        if name not in catalogue:
            raise ConfigError(
                f"there is no rule {name}.{suggestion(name, catalogue)} There are {', '.join(catalogue)}."
            )
    chosen = list(names) or list(catalogue)
    return [_build(catalogue[name], parameters.get(name) or {}) for name in chosen]


def parameters_of(rule: type[Any]) -> dict[str, Any]:
    """A rule's parameters and their defaults."""
    return {f.name: f.default for f in dataclasses.fields(rule) if not f.name.startswith("_")}


def raised(error: Exception) -> str:
    """What a rule raised and where, in one line."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {first_line(error)} ({where.name}, line {where.lineno})"


def _build(rule: type[R], typed: Any) -> R:
    known = parameters_of(rule)
    if not isinstance(typed, Mapping):
        raise ConfigError(
            f"{rule.__name__}={typed}: its parameters are a mapping, as "
            f"{{{rule.__name__}: {{{next(iter(known))}: 1}}}}."
        )
    for name, value in typed.items():
        if name not in known:
            raise ConfigError(
                f"{rule.__name__} has no parameter {name}.{suggestion(name, known)} It has {', '.join(known)}."
            )
        if not _fits(value, known[name]):
            raise ConfigError(
                f"{rule.__name__}.{name}={value}: that is no {type(known[name]).__name__}. "
                f"The default is {known[name]}."
            )
    return rule(**typed)


def _fits(value: Any, default: Any) -> bool:
    if default is None or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    return isinstance(value, type(default))

"""What rules ask of a trial in one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sagelight.debugging.trial import Moment, Trial

TRAIN, EVAL = "TRAIN", "EVAL"


def chosen(
    trial: Trial,
    moment: Moment,
    collections: str | None,
    regex: str | None,
    default: str = "",
) -> list[str]:
    """Names of a step's tensors by a rule's `collection_names` (comma-separated) and `tensor_regex`, or `default`."""
    if collections is None and regex is None:
        collections = default
    found: set[str] = set()
    for name in (collections or "").split(","):
        if name.strip():
            found |= set(trial.names(collection=name.strip(), moment=moment))
    if regex is not None:
        found |= set(trial.names(regex=regex, moment=moment))
    return sorted(found)


def trained(trial: Trial, moment: Moment) -> list[str]:
    """Names of a step's weights that learn: those of frozen layers have no gradients."""
    learning = set(trial.names(collection="gradients"))
    names = trial.names(collection="weights", moment=moment)
    return [name for name in names if f"gradient/{name}" in learning]


def at(trial: Trial, name: str, moment: Moment, reduction: str = "") -> float | None:
    """A reduction of a tensor in a step as a number; None where it was not written then."""
    value = trial.value(name, moment.mode, moment.step, reduction)
    return None if value is None else float(value)


def readings(
    trial: Trial, moment: Moment, names: Iterable[str], reduction: str
) -> Iterator[tuple[str, float]]:
    """A reduction of each of these tensors in a step; those without one are left out."""
    for name in names:
        value = at(trial, name, moment, reduction)
        if value is not None:
            yield name, value


def loss_at(trial: Trial, moment: Moment) -> float | None:
    """The mean of a step's losses."""
    values = [value for _, value in readings(trial, moment, _losses(trial, moment), "mean")]
    return sum(values) / len(values) if values else None


def _losses(trial: Trial, moment: Moment) -> list[str]:
    return trial.names(collection="losses", moment=moment)

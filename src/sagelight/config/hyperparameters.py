"""Overrides <-> the string map that SageMaker calls hyperparameters.

What every job of a study shares travels as one JSON list, cut into parts because a value is at most 2,500
characters long. What a tuner chooses travels under the setting's own dotted name, as Hydra text, so that the
console shows `optimizer.lr`, and so that training jobs and tuning jobs reach the same entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sagelight.errors import ConfigError
from sagelight.parsing import parse_json

STATIC = "sagelight_overrides_"
LONGEST_VALUE = 2500
# What SageMaker's tuner and its containers add for themselves.
_FOREIGN = ("sagemaker_", "sagelight_", "_tuning_objective_metric")


def encode(overrides: Sequence[str]) -> dict[str, str]:
    """The overrides as `sagelight_overrides_0`, `_1`, ...: ASCII, no line breaks, at most 2,500 characters each."""
    text = json.dumps(list(overrides))
    parts = [text[i : i + LONGEST_VALUE] for i in range(0, len(text), LONGEST_VALUE)]
    return {f"{STATIC}{number}": part for number, part in enumerate(parts)}


def decode(hyperparameters: Mapping[str, str]) -> list[str]:
    """The overrides of a job: the shared ones, then `name=text` of each tuned one, sorted by name.

    Values may come plain, or wrapped in JSON quotes as version 2 of the SageMaker SDK sends them.

    Raises:
        ConfigError: parts of the shared overrides that do not make one list.
    """
    tuned = sorted(name for name in hyperparameters if not name.startswith(_FOREIGN))
    return [
        *_shared(hyperparameters),
        *(f"{name}={unwrapped(hyperparameters[name])}" for name in tuned),
    ]


def _shared(values: Mapping[str, str]) -> list[str]:
    names = [name for name in values if name.startswith(STATIC)]
    if not names:
        return []
    # By number: of two of them the longer is the larger.
    names.sort(key=lambda name: (len(name), name))
    # A plain part may begin and end with a quote by chance, so only the whole tells which encoding it is.
    for joined in (
        "".join(values[name] for name in names),
        "".join(unwrapped(values[name]) for name in names),
    ):
        overrides = _json(joined)
        if isinstance(overrides, list):
            return [str(text) for text in overrides]
    raise ConfigError(
        f"the hyperparameters {', '.join(names)} are not one JSON list. They are written by "
        "launch/sagemaker.py; start the job with it."
    )


def unwrapped(text: str) -> str:
    """The text inside JSON quotes; Hydra texts of ours never begin with a double quote."""
    inner = _json(text) if text.startswith('"') else None
    return inner if isinstance(inner, str) else text


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None

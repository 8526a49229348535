"""What runs inside a SageMaker endpoint: `python -m sagelight.container.serve`, with or without the word serve."""

from __future__ import annotations

import os
import signal
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

from sagelight.bundle.preprocessing import MAX_PIXELS
from sagelight.cli import guarded
from sagelight.config.setting import AUTO, Limits, hints, walk
from sagelight.container.paths import JobPaths
from sagelight.errors import ConfigError
from sagelight.serving.inference import BATCH
from sagelight.serving.server.command import run_serve
from sagelight.serving.server.settings import ServeSettings

PREFIX = "SAGELIGHT_"
PORT = "SAGEMAKER_BIND_TO_PORT"
# What SageMaker says to the container of a batch transform job, with the PAYLOAD in MB.
PAYLOAD = "SAGEMAKER_MAX_PAYLOAD_IN_MB"
# The largest photo that can be decoded, where each of its pixels counts three times.
BATCH_MEGAPIXELS = 3 * MAX_PIXELS // 10**6
WORDS: dict[str, bool] = {"true": True, "1": True, "false": False, "0": False}
READERS: dict[type, Callable[[str], Any]] = {
    int: int,
    float: float,
    str: str,
    bool: lambda text: WORDS[text.lower()],
    list: lambda text: [part.strip() for part in text.split(",") if part.strip()],
}
EXPECTED = {int: "a whole number", float: "a number", bool: "true or false"}


def main() -> int:
    """Serve the model that SageMaker has unpacked, until SIGTERM.

    Returns:
        0 stopped; 2 a bundle, variable or port that cannot be used, with the reason on stderr.
    """
    # The first process of a container is not ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    return guarded(lambda: run_serve(container_settings(os.environ, sys.argv[1:])))


def container_settings(variables: Mapping[str, str], words: list[str]) -> ServeSettings:
    """The settings that a container's environment asks for: SAGELIGHT_BATCH_SIZE and so on.

    Raises:
        ConfigError: a variable that is no value of its setting, or a word other than `serve`.
    """
    if words not in ([], ["serve"]):
        raise ConfigError(f"{' '.join(words)}: this container knows the word serve alone.")
    # A heat map costs as much as fifty answers, and a page is not what an endpoint is asked for.
    settings = ServeSettings(host="0.0.0.0", explain=False)
    settings.bundle = str(JobPaths.here().model)
    if PORT in variables:
        settings.port = _parsed("port", PORT, variables[PORT])
    if variables.get(BATCH) == "true":
        _prepare_for_batches(settings, variables)
    for name, _ in walk(ServeSettings):
        variable = PREFIX + name.upper()
        if variable in variables:
            setattr(settings, name, _parsed(name, variable, variables[variable]))
    return settings


def _prepare_for_batches(settings: ServeSettings, variables: typing.Mapping[str, str]) -> None:
    """In batch transform the photos are the owner's own: what `predict` takes is taken, and one bad photo is an answer."""
    settings.tolerant = True
    settings.max_megapixels = BATCH_MEGAPIXELS
    if PAYLOAD in variables:
        settings.max_body_bytes = _parsed("max_body_bytes", PAYLOAD, variables[PAYLOAD]) * 2**20


def _parsed(name: str, variable: str, text: str) -> Any:
    field = dict(walk(ServeSettings))[name]
    kinds = hints(ServeSettings, name)
    kind = typing.get_origin(kinds[0]) or kinds[0]
    if text == AUTO and str in kinds:
        return text
    try:
        value = READERS[kind](text)
    except (ValueError, KeyError):
        words = EXPECTED[kind] + (f" or {AUTO}" if str in kinds else "")
        raise ConfigError(f"{variable}={text}: must be {words}.") from None
    limits: Limits = field.metadata["limits"]
    complaint = limits.complaint(value)
    if complaint:
        raise ConfigError(f"{variable}={text}: {complaint}.")
    return value


if __name__ == "__main__":
    sys.exit(main())

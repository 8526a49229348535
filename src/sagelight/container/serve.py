"""What runs inside a SageMaker endpoint: `python -m sagelight.container.serve`, with or without the word serve."""

from __future__ import annotations

import os
import sys
import typing
from typing import Any

from sagelight.cli import guarded
from sagelight.config.setting import AUTO, Limits, hints, walk
from sagelight.container.paths import JobPaths
from sagelight.errors import ConfigError
from sagelight.serving.server.command import run_serve
from sagelight.serving.server.settings import ServeSettings

PREFIX = "SAGELIGHT_"
PORT = "SAGEMAKER_BIND_TO_PORT"
WORDS: dict[str, bool] = {"true": True, "1": True, "false": False, "0": False}


def main() -> int:
    """Serve the model that SageMaker has unpacked, until SIGTERM.

    Returns:
        0 stopped; 2 a bundle, variable or port that cannot be used, with the reason on stderr.
    """
    return guarded(lambda: run_serve(container_settings(os.environ, sys.argv[1:])))


def container_settings(variables: typing.Mapping[str, str], words: list[str]) -> ServeSettings:
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
    for name, _ in walk(ServeSettings):
        variable = PREFIX + name.upper()
        if variable in variables:
            setattr(settings, name, _parsed(name, variable, variables[variable]))
    return settings


def _parsed(name: str, variable: str, text: str) -> Any:
    field = dict(walk(ServeSettings))[name]
    limits: Limits = field.metadata["limits"]
    try:
        value = _value(hints(ServeSettings, name), text)
    except (ValueError, KeyError):
        raise ConfigError(f"{variable}={text}: {name} takes no such value.") from None
    complaint = limits.complaint(value)
    if complaint:
        raise ConfigError(f"{variable}={text}: {complaint}.")
    return value


def _value(kinds: tuple[Any, ...], text: str) -> Any:
    kind = typing.get_origin(kinds[0]) or kinds[0]
    if text == AUTO and str in kinds:
        return text
    if kind is bool:
        return WORDS[text.lower()]
    if kind is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    return kind(text)


if __name__ == "__main__":
    sys.exit(main())

"""What docker/Dockerfile says, read for tests."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of that name, in order, on one line each."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [words[1].strip() for words in lines if words[0] == name]


def exec_form(name: str) -> list[str]:
    """The words of the one instruction of that name, which must be in exec form."""
    [argument] = instructions(name)
    words: list[str] = json.loads(argument)
    return words


def health_command() -> list[str]:
    [argument] = instructions("HEALTHCHECK")
    words: list[str] = json.loads(argument[argument.index("[") :])
    return words


def pip_steps(stage: str) -> list[list[str]]:
    """The words of each RUN of a stage that calls pip first: what makes a Python of the image."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    body = text.partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]
    runs = [line.removeprefix("RUN ") for line in body.splitlines() if line.startswith("RUN ")]
    return [shlex.split(run) for run in runs if run.startswith("python -m pip ")]

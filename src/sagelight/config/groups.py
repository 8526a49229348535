"""The config groups: folders of conf/, one file a choice."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

# In the order that a person decides in, which is also the order of `--help`.
GROUPS = (
    "experiment",
    "data",
    "augment",
    "model",
    "finetune",
    "loss",
    "optimizer",
    "schedule",
    "trainer",
    "callbacks",
    "logger",
    "debugger",
    "profiler",
    "hpo",
    "cloud",
)


@cache
def conf_dir() -> Path:
    """Where conf/ lies: inside an installed package, or beside src/ in a checkout."""
    return _shipped("conf")


@cache
def requirements_dir() -> Path:
    """Where requirements/ lies: inside an installed package, or beside src/ in a checkout."""
    return _shipped("requirements")


@cache
def default_choice(group: str) -> str:
    """What conf/train.yaml chooses for a group when nobody says otherwise."""
    root = yaml.safe_load((conf_dir() / "train.yaml").read_text(encoding="utf-8"))
    return next(str(entry[group]) for entry in root["defaults"] if group in entry)


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parents[1]
    installed = package / name
    return installed if installed.is_dir() else package.parents[1] / name


@cache
def group_choices(group: str) -> tuple[str, ...]:
    """The choices of a group, sorted."""
    return tuple(sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")))

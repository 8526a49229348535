"""The config groups: folders of conf/, one file a choice."""

from __future__ import annotations

from functools import cache
from pathlib import Path

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
    "hpo",
)


@cache
def conf_dir() -> Path:
    """Where conf/ lies: inside an installed package, or beside src/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


@cache
def group_choices(group: str) -> tuple[str, ...]:
    """The choices of a group, sorted."""
    return tuple(sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")))

"""The best trial as an experiment file, so that training it again is an ordinary run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from sagelight.config.grammar import parse_override
from sagelight.config.groups import GROUPS, default_choice

SELF = "_self_"


def experiment_file(overrides: Sequence[str], study: str) -> str:
    """Overrides as the text of an experiment file: groups as defaults, settings as values.

    An experiment file that they start from is taken in, so the new one stands alone.

    Args:
        overrides: a trial's, without sweeps; the space that they were drawn from is left out.
        study: named in the file's first comment.
    """
    groups: dict[str, Any] = {}
    own = OmegaConf.create()
    for text in overrides:
        override = parse_override(text)
        if override.key_or_group in GROUPS:
            groups[override.key_or_group] = override.value()
        else:
            OmegaConf.update(own, override.key_or_group, override.value())
    groups.pop("hpo", None)
    defaults, values = _start(groups.pop("experiment", None))
    for group, choice in groups.items():
        _choose(defaults, group, choice)
    merged = OmegaConf.to_container(OmegaConf.merge(values, own))
    assert isinstance(merged, dict)
    body = yaml.safe_dump({"defaults": [*defaults, SELF], **merged}, sort_keys=False)
    return f"# @package _global_\n# The best trial of {study}.\n{body}"


def _start(experiment: Any) -> tuple[list[Any], DictConfig]:
    """The defaults and values to build on: those of a file, or a shipped experiment by its name."""
    if experiment is None:
        experiment = default_choice("experiment")
    if "." not in str(experiment):
        return [experiment], OmegaConf.create()
    loaded = yaml.safe_load(Path(experiment).read_text(encoding="utf-8")) or {}
    defaults = [entry for entry in loaded.pop("defaults", []) if entry != SELF]
    return defaults, OmegaConf.create(loaded)


def _choose(defaults: list[Any], group: str, choice: Any) -> None:
    key = f"override /{group}"
    defaults[:] = [entry for entry in defaults if not (isinstance(entry, dict) and key in entry)]
    defaults.append({key: choice})

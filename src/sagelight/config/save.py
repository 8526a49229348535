"""A configuration on disk, and the digest that tells two of them apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

try:
    # libyaml reads a configuration in a tenth of the time, and there may be thousands of unfinished runs to look at.
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

from sagelight.config.schema import Config
from sagelight.files import write_text

# Where a run writes, how it was started, on whose machines and who watches it do not change what it computes.
PLACE = ("name", "run_dir", "resume", "cloud", "debugger", "profiler")
# Of a study, only what chooses the best epoch does.
CHOOSING = ("metric", "direction")
# Nor does where photos lie (they are told apart by their fingerprint) and how they are loaded, how features are kept,
# when training is saved, and whether one process trains or several.
WITHOUT = {
    "data": (
        "root", "num_workers", "prefetch", "pin_memory", "cache_folder", "cache_max_gb", "shards_folder", "shards_gb",
    ),
    "features": ("cache", "folder", "max_gb"),
    "trainer": ("strategy", "devices", "checkpoint_minutes", "checkpoint_steps"),
}  # fmt: skip


def save(config: Config, path: Path) -> None:
    """Write the complete configuration as YAML, in the order of the schema.

    Whose machines it ran on stays out: reports and bundles travel, accounts and roles should not.
    """
    values = {key: value for key, value in asdict(config).items() if key != "cloud"}
    write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def digest(values: dict[str, Any], but: Collection[str] = ()) -> str:
    """Hex SHA-256 of the values that decide what a run computes; `but` names those to leave out, as data.cache."""
    kept = {key: value for key, value in values.items() if key not in PLACE}
    if isinstance(kept.get("hpo"), dict):
        kept["hpo"] = {key: kept["hpo"].get(key) for key in CHOOSING}
    for group, names in WITHOUT.items():
        if isinstance(kept.get(group), dict):
            kept[group] = {
                k: v for k, v in kept[group].items() if k not in names and f"{group}.{k}" not in but
            }
    # Weights may lie elsewhere on another machine.
    if isinstance(kept.get("model"), dict):
        kept["model"] = {**kept["model"], "weights": Path(str(kept["model"].get("weights"))).name}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def config_digest(config: Config, but: Collection[str] = ()) -> str:
    return digest(asdict(config), but)


def saved_values(run_dir: Path) -> dict[str, Any] | None:
    """The configuration that a run saved, group by group, or None when it saved none that is readable."""
    try:
        values = yaml.load((run_dir / "config.yaml").read_text(encoding="utf-8"), Loader=SafeLoader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    return values if isinstance(values, dict) else None


def saved_digest(run_dir: Path, but: Collection[str] = ()) -> str | None:
    """The digest of the configuration that a run saved, or None when it saved none that is readable."""
    values = saved_values(run_dir)
    return None if values is None else digest(values, but)

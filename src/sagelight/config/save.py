"""A configuration on disk, and the digest that tells two of them apart."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sagelight.config.schema import Config
from sagelight.files import write_text

# Where a run writes, how it was started, on whose machines and who watches it do not change what it computes; of a
# study, only what chooses the best epoch does, and of features, how they are stored.
PLACE = ("name", "run_dir", "resume", "cloud", "debugger", "profiler")
CHOOSING = ("metric", "direction")
STORED = ("cache", "folder", "max_gb")
# However photos are loaded, they are the same; and how is measured at each start.
LOADED = ("num_workers", "prefetch", "pin_memory")


def save(config: Config, path: Path) -> None:
    """Write the complete configuration as YAML, in the order of the schema.

    Whose machines it ran on stays out: reports and bundles travel, accounts and roles should not.
    """
    values = {key: value for key, value in asdict(config).items() if key != "cloud"}
    write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def digest(values: dict[str, Any]) -> str:
    """Hex SHA-256 of the values that decide what a run computes."""
    kept = {key: value for key, value in values.items() if key not in PLACE}
    if isinstance(kept.get("hpo"), dict):
        kept["hpo"] = {key: kept["hpo"].get(key) for key in CHOOSING}
    if isinstance(kept.get("features"), dict):
        kept["features"] = {k: v for k, v in kept["features"].items() if k not in STORED}
    # Photos are told apart by their fingerprint. Photos and weights may lie elsewhere on another machine.
    if isinstance(kept.get("data"), dict):
        kept["data"] = {k: v for k, v in kept["data"].items() if k != "root" and k not in LOADED}
    if isinstance(kept.get("model"), dict):
        kept["model"] = {**kept["model"], "weights": Path(str(kept["model"].get("weights"))).name}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def config_digest(config: Config) -> str:
    return digest(asdict(config))


def saved_digest(run_dir: Path) -> str | None:
    """The digest of the configuration that a run saved, or None when it saved none that is readable."""
    try:
        values = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    return digest(values) if isinstance(values, dict) else None

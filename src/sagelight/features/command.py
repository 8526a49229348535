"""The verb `features`: what is kept, and making room."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sagelight.config.setting import setting
from sagelight.features.store import FeatureStore, Kept


@dataclass
class FeaturesSettings:
    folder: str | None = setting(
        None, "Where features are kept; null is ~/.cache/sagelight/features."
    )
    clear: bool = setting(False, "Remove all of them; they are computed again when needed.")


def run_features(settings: FeaturesSettings) -> None:
    """List the features that are kept, the longest unused first, or remove them."""
    store = FeatureStore(feature_folder(settings.folder), 0)
    kept = store.kept()
    for each in kept:
        print(_line(each))
    total = sum(each.bytes for each in kept)
    if settings.clear:
        store.sweep()
        for each in kept:
            store.remove(each.key)
    print(
        f"{len(kept)} in {store.folder}, {total / 1e6:,.1f} MB"
        + (", removed" if settings.clear else "")
    )


def feature_folder(folder: str | None) -> Path:
    """Where features are kept: `folder`, or below the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "sagelight" / "features" if folder is None else Path(folder)


def _line(kept: Kept) -> str:
    facts = kept.facts
    used = datetime.fromtimestamp(kept.used).strftime("%Y-%m-%d %H:%M")
    views = f", {facts['views']} views" if facts["views"] > 1 else ""
    return (
        f"{kept.key}  {kept.bytes / 1e6:8,.1f} MB  used {used}  {facts['backbone']} at {facts['image_size']}, "
        f"{facts['split']}{views}, {facts['dtype']}"
    )

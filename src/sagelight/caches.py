"""The verb `cache`: what is kept for later runs, and making room. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sagelight.config.setting import setting
from sagelight.data import resized_store
from sagelight.data.resized_store import ResizedStore
from sagelight.features import store as feature_store
from sagelight.features.store import FeatureStore
from sagelight.store import Kept, Store, cache_folder


@dataclass
class CacheSettings:
    kind: str = setting(
        "all",
        "features: what frozen backbones gave; photos: resized ones.",
        choices=("all", "features", "photos"),
    )
    folder: str | None = setting(
        None, "Where they are kept; null is below ~/.cache/sagelight, where they go unless told."
    )
    clear: bool = setting(False, "Remove them; they are made again when needed.")


def run_cache(settings: CacheSettings) -> None:
    """List what is kept, the longest unused first, or remove it."""
    if settings.kind != "photos":
        folder = cache_folder(settings.folder, "features")
        _show(FeatureStore(folder, 0), feature_store.told, settings.clear)
    if settings.kind != "features":
        folder = cache_folder(settings.folder, "photos")
        _show(ResizedStore(folder, 0), resized_store.told, settings.clear)


def _show(store: Store, told: Callable[[Kept], str], clear: bool) -> None:
    kept = store.kept()
    for each in kept:
        used = datetime.fromtimestamp(each.used).strftime("%Y-%m-%d %H:%M")
        print(f"{each.key}  {each.bytes / 1e6:8,.1f} MB  used {used}  {_words(told, each)}")
    total = sum(each.bytes for each in kept)
    line = f"{store.what}: {len(kept)} in {store.folder}, {total / 1e6:,.1f} MB"
    if clear:
        store.sweep()
        in_use = sum(not store.remove(each.key) for each in kept)
        line += f", removed but {in_use} in use" if in_use else ", removed"
    print(line)


def _words(told: Callable[[Kept], str], kept: Kept) -> str:
    try:
        return told(kept)
    except (KeyError, TypeError, ValueError):
        return "damaged"

"""`data=shards`: an index from a folder or a bucket, and where its archives are read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sagelight.data.index import ImageIndex
from sagelight.data.settings import DataSettings, shuffled_shards
from sagelight.data.shards.archives import INDEX, S3, Shards
from sagelight.data.shards.index import Cut, read_index, refuse_missing
from sagelight.data.shards.place import cache_folder
from sagelight.data.shards.room import SharedRoom
from sagelight.errors import ConfigError, DataError


def open_shards(data: DataSettings) -> ImageIndex:
    """The photos of shards that `prepare` has written, in the splits that they were written with.

    Raises:
        ConfigError: fractions or a seed of splits other than theirs, or too little room.
        DataError: no shards there, a damaged or newer index, a missing archive.
        CloudError: a bucket that cannot be read.
    """
    root = str(data.root)
    content = _content(root)
    prepared = read_index(content, root)
    index = prepared.index
    assert index.shards is not None
    if index.cut:
        _refuse_other_cut(data, prepared.cut)
    window, _ = shuffled_shards(data)
    if not root.startswith(S3):
        refuse_missing(index.shards)
    if window or root.startswith(S3):
        name = hashlib.sha256(content).hexdigest()[:16]
        return index.in_room(_room(data, index.shards, name, window))
    return index


def _content(root: str) -> bytes:
    if root.startswith(S3):
        from sagelight.cloud.objects import Objects

        content = Objects(root).read(INDEX)
    else:
        path = Path(root).expanduser() / INDEX
        content = path.read_bytes() if path.is_file() else None
    if content is None:
        raise DataError(
            f"data.root={root} holds no shards: there is no {INDEX}. Type "
            f"`python launch/local.py prepare data.root=PHOTOS output={root}` to write them, or data=folder."
        )
    return content


def _room(data: DataSettings, shards: Shards, name: str, window: int) -> SharedRoom:
    most = int(data.shards_gb * 1e9)
    sizes = sorted((shard.size for shard in shards.archives), reverse=True)
    # Those of one window are read while those of the next are fetched.
    needed = sum(sizes[: 2 * window] if window else sizes)
    if needed > most:
        raise ConfigError(
            f"data.shards_gb={data.shards_gb:g} is less than the {needed / 1e9:.1f} GB that data.shuffle_shards={window} "
            f"needs at a time. Type data.shards_gb={-(-needed // 10**9)}, or fewer data.shuffle_shards."
        )
    folder = (
        Path(data.shards_folder).expanduser() if data.shards_folder else cache_folder() / "shards"
    )
    return SharedRoom(folder, name, most, max(4, 2 * window))


def _refuse_other_cut(data: DataSettings, cut: Cut) -> None:
    for name, theirs in vars(cut).items():
        asked = getattr(data, name)
        if asked != theirs:
            raise ConfigError(
                f"data.{name}={asked}: these shards were cut with {theirs}. Type data.{name}={theirs}, "
                "or prepare the photos again."
            )

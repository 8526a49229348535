"""index.npz: written beside shards when all of them are there, and read instead of listing a folder."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.archives import refuse_swollen
from sagelight.data.index import SPLITS, ImageIndex, Sample
from sagelight.data.shards.archives import INDEX, Shard, Shards, pack_arrays
from sagelight.errors import ArchiveError, DataError, first_line
from sagelight.parsing import DAMAGE, parse_json

FORMAT = 1
# A copy is written under this name, wherever the index came from.
_SHARD = re.compile(r"\w[\w.-]*\.tar", re.ASCII)
_ARRAYS = ("facts", "paths", "split", "target", "shard", "offset", "size")


@dataclass(frozen=True)
class Cut:
    """How splits were cut that had no folder of their own."""

    validation_fraction: float
    test_fraction: float
    split_seed: int


@dataclass(frozen=True)
class Prepared:
    """What an index file says.

    Attributes:
        plan: digest of the photos and of how they were to be written.
    """

    index: ImageIndex
    cut: Cut
    resize: int | None
    plan: str


def index_bytes(prepared: Prepared) -> bytes:
    """The index file of an index whose photos lie in shards; the same photos give the same bytes."""
    index, shards = prepared.index, prepared.index.shards
    assert shards is not None
    samples = [(number, s) for number, split in enumerate(SPLITS) for s in index.splits[split]]
    facts = {
        "format": FORMAT,
        "labels": index.labels,
        "cut_splits": index.cut,
        "cut": vars(prepared.cut),
        "fingerprint": index.fingerprint,
        "resize": prepared.resize,
        "plan": prepared.plan,
        "shards": [vars(shard) for shard in shards.archives],
    }
    arrays: dict[str, NDArray[Any]] = {
        "facts": _text(json.dumps(facts, sort_keys=True)),
        "paths": _text("\0".join(sample.path for _, sample in samples)),
        "split": np.array([number for number, _ in samples], dtype=np.uint8),
        "target": np.array([sample.target for _, sample in samples], dtype=np.int32),
        "shard": shards.shard,
        "offset": shards.offset,
        "size": shards.size,
    }
    return pack_arrays(arrays)


def read_index(content: bytes, root: str) -> Prepared:
    """Read an index file's bytes.

    Raises:
        DataError: damaged, no index, or of a newer format.
    """
    where = f"{root.rstrip('/')}/{INDEX}"
    try:
        with zipfile.ZipFile(BytesIO(content)) as packed:
            refuse_swollen(packed, len(content))
        with np.load(BytesIO(content), allow_pickle=False) as file:
            facts = parse_json(file["facts"].tobytes())
            _refuse_newer(int(facts["format"]), where)
            arrays = {name: file[name] for name in _ARRAYS[1:]}
        return _prepared(facts, arrays, root)
    except DataError:
        raise
    except (ArchiveError, zipfile.BadZipFile, zlib.error, *DAMAGE) as error:
        raise DataError(
            f"{where} is damaged ({first_line(error)}). Copy it again, or type "
            "`python launch/local.py prepare` to write the shards again."
        ) from error


def refuse_missing(shards: Shards) -> None:
    """Look at the size of every archive of a local folder.

    Raises:
        DataError: one is missing or has another size.
    """
    for shard in shards.archives:
        path = Path(shards.root) / shard.name
        size = path.stat().st_size if path.is_file() else -1
        if size != shard.size:
            what = "is missing" if size < 0 else f"has {size:,} bytes instead of {shard.size:,}"
            raise DataError(
                f"data.root={shards.root}: {shard.name} {what}. Copy it again, or type "
                "`python launch/local.py prepare` to write the shards again."
            )


def _prepared(facts: dict[str, Any], arrays: dict[str, NDArray[Any]], root: str) -> Prepared:
    text = arrays["paths"].tobytes().decode(errors="surrogateescape")
    paths = text.split("\0") if text else []
    sizes = {len(paths), *(len(arrays[name]) for name in _ARRAYS[2:])}
    archives = tuple(Shard(**entry) for entry in facts["shards"])
    if not all(_SHARD.fullmatch(shard.name) for shard in archives):
        raise ValueError("it names a shard outside of its folder")
    if len(sizes) != 1:
        raise ValueError("its columns differ in length")
    _refuse_strange_facts(archives, facts["labels"])
    if paths:
        _refuse_outside(arrays, archives, len(facts["labels"]))
    splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for path, split, target in zip(paths, arrays["split"], arrays["target"].tolist(), strict=True):
        splits[SPLITS[split]].append(Sample(path, target))
    shards = Shards(root, archives, paths, arrays["shard"], arrays["offset"], arrays["size"])
    index = ImageIndex(
        Path(root), facts["labels"], splits, facts["cut_splits"], facts["fingerprint"], shards
    )
    return Prepared(index, Cut(**facts["cut"]), facts["resize"], facts["plan"])


def _refuse_strange_facts(archives: Sequence[Shard], labels: Any) -> None:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("its labels are not texts")
    for shard in archives:
        if not (isinstance(shard.name, str) and isinstance(shard.sha256, str)):
            raise ValueError("an archive has no name or no checksum")
        if not isinstance(shard.size, int) or not 0 <= shard.size < 2**63:
            raise ValueError(f"{shard.name} has no size")


def _refuse_outside(
    arrays: dict[str, NDArray[Any]], archives: Sequence[Shard], labels: int
) -> None:
    """Photos of archives or classes that there are none of, or beyond their archive's end."""
    shard, offset, size = (arrays[name].astype(np.int64) for name in ("shard", "offset", "size"))
    if not 0 <= shard.min() <= shard.max() < len(archives):
        raise ValueError("it names shards that there are none of")
    if not 0 <= arrays["target"].min() <= arrays["target"].max() < labels:
        raise ValueError("it names classes that there are none of")
    room = np.array([each.size for each in archives], dtype=np.int64)[shard]
    if offset.min() < 0 or size.min() < 0 or (offset > room).any() or (size > room - offset).any():
        raise ValueError("a photo lies outside its archive")


def _refuse_newer(number: int, where: str) -> None:
    if number > FORMAT:
        raise DataError(
            f"{where} has format {number}, and this sagelight reads up to {FORMAT}. "
            "Type pip install --upgrade sagelight, or write the shards again with this one."
        )


def _text(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(errors="surrogateescape"), dtype=np.uint8)

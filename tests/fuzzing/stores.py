"""Caches and shards: index files, archives, stores of features and of resized photos."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import zlib
from functools import cache
from pathlib import Path

import numpy as np

from fuzzing.changes import change_json, joined, parts_of
from fuzzing.target import Target, scratch, written
from sagelight.data.index import ImageIndex, Sample
from sagelight.data.resized import ResizedFile
from sagelight.data.resized_store import FACTS, PIXELS, ROWS, ResizedStore, stamp
from sagelight.data.shards.archives import Shard, Shards, pack_arrays
from sagelight.data.shards.index import Cut, Prepared, index_bytes, read_index
from sagelight.features.store import ARRAY, FeatureStore
from sagelight.features.store import FACTS as FEATURE_FACTS
from sagelight.store import digest, unreadable_photos

ARCHIVE = bytes(range(256)) * 8


@cache
def _shards() -> Path:
    return written("shards/00000.tar", ARCHIVE).parent


def _prepared() -> Prepared:
    root = _shards()
    paths = ["a/0.jpg", "b/1.jpg", "a/2.jpg"]
    columns = [np.array(c) for c in ([0, 0, 0], [512, 1024, 1536], [100, 200, 300])]
    shards = Shards(
        str(root),
        (Shard("00000.tar", len(ARCHIVE), "0" * 64),),
        paths,
        columns[0].astype(np.int32),
        columns[1].astype(np.int64),
        columns[2].astype(np.int64),
    )
    samples = [Sample(path, number % 2) for number, path in enumerate(paths)]
    splits = {"train": samples[:1], "validation": samples[1:2], "test": samples[2:]}
    index = ImageIndex(root, ["a", "b"], splits, ["test"], "f" * 64, shards)
    return Prepared(index, Cut(0.1, 0.2, 3), None, "plan")


def _index(content: bytes) -> None:
    """An index, and every photo that it names."""
    prepared = read_index(content, str(_shards()))
    index = prepared.index
    assert index.shards is not None
    assert all(isinstance(label, str) for label in index.labels)
    assert all(Path(shard.name).name == shard.name for shard in index.shards.archives)
    for samples in index.splits.values():
        for sample in samples:
            assert 0 <= sample.target < len(index.labels)
            assert len(index.shards.read(sample.path)) >= 0


def _facts(data: bytes) -> None:
    """An index file of these facts and columns, whose checksums are right."""
    facts, paths, *columns = parts_of(data, 7)
    kinds = (np.uint8, np.int32, np.int32, np.int64, np.int64)
    names = ("split", "target", "shard", "offset", "size")
    arrays = {
        name: np.frombuffer(column[: len(column) // size * size], kind)
        for name, kind, column in zip(names, kinds, columns, strict=True)
        if (size := np.dtype(kind).itemsize)
    }
    texts = {n: np.frombuffer(c, np.uint8) for n, c in (("facts", facts), ("paths", paths))}
    _index(pack_arrays({**texts, **arrays}))


def _fact_seeds() -> list[bytes]:
    with np.load(io.BytesIO(index_bytes(_prepared()))) as file:
        names = ("facts", "paths", "split", "target", "shard", "offset", "size")
        return [joined(*(file[name].tobytes() for name in names))]


FEATURES = {"shape": [2, 3], "kind": "fuzzed"}


def _features(data: bytes) -> None:
    """What is found in the place of features; what does not fit is computed again."""
    facts, content = parts_of(data, 2)
    store = FeatureStore(scratch() / "features", 10**9)
    place = store.folder / digest(FEATURES)
    shutil.rmtree(place, ignore_errors=True)
    sealed = facts.replace(b"@sha256@", hashlib.sha256(content).hexdigest().encode())
    written(f"features/{place.name}/{FEATURE_FACTS}", sealed)
    (place / ARRAY).write_bytes(content)

    def compute(array: np.ndarray) -> dict[str, object]:
        array[:] = 1
        return {"unreadable": {}}

    with contextlib.redirect_stderr(io.StringIO()):
        values, found = store.get(FEATURES, (2, 3), "float32", compute)
    assert (values.shape, values.dtype) == ((2, 3), np.float32)
    assert all(position >= 0 for position in unreadable_photos(found))
    assert np.asarray(values).sum() is not None
    store.kept()


def _feature_seeds() -> list[bytes]:
    file = io.BytesIO()
    np.save(file, np.ones((2, 3), np.float32))
    facts = {**FEATURES, "unreadable": {"1": "truncated"}, "sha256": "@sha256@"}
    return [joined(json.dumps(facts).encode(), file.getvalue())]


RESIZED = {"format": 1, "kind": "fuzzed"}


def _resized(data: bytes) -> None:
    """What is found in the place of resized photos: trusted as far as it can be read."""
    facts, rows, pixels = parts_of(data, 3)
    store = ResizedStore(scratch() / "photos", 10**9)
    place = store.folder / digest(RESIZED)
    shutil.rmtree(place, ignore_errors=True)
    path = written(f"photos/{place.name}/{PIXELS}", pixels)
    (place / ROWS).write_bytes(rows)
    sealed = facts.replace(b"@sha256@", hashlib.sha256(rows).hexdigest().encode())
    sealed = sealed.replace(b'"@stamp@"', json.dumps(stamp(path)).encode())
    (place / FACTS).write_bytes(sealed)

    def make(folder: Path) -> dict[str, object]:
        (folder / PIXELS).write_bytes(PHOTOS)
        np.save(folder / ROWS, _rows())
        return _resized_facts(folder)

    with contextlib.redirect_stderr(io.StringIO()):
        folder, found = store.get(RESIZED, 2, make)
    unreadable = unreadable_photos(found)
    file = ResizedFile(folder, unreadable)
    for row in range(2):
        if row not in unreadable:
            assert file.pixels(row).sum() >= 0


PHOTOS = bytes(range(36)) + bytes(24)


def _rows() -> np.ndarray:
    crcs = zlib.crc32(PHOTOS[:36]), zlib.crc32(PHOTOS[36:])
    return np.array([[0, 3, 4, crcs[0]], [36, 4, 2, crcs[1]]], np.int64)


def _resized_facts(folder: Path) -> dict[str, object]:
    sealed = hashlib.sha256((folder / ROWS).read_bytes()).hexdigest()
    return {"unreadable": {}, "count": 2, "rows": sealed, "stamp": stamp(folder / PIXELS)}


def _resized_seeds() -> list[bytes]:
    file = io.BytesIO()
    np.save(file, _rows())
    facts = {**RESIZED, "unreadable": {}, "count": 2, "rows": "@sha256@", "stamp": "@stamp@"}
    return [joined(json.dumps(facts).encode(), file.getvalue(), PHOTOS)]


TARGETS = {
    "stores.index": Target(_index, lambda: [index_bytes(_prepared())]),
    "stores.facts": Target(_facts, _fact_seeds, change=change_json),
    "stores.features": Target(_features, _feature_seeds, change=change_json),
    "stores.resized": Target(_resized, _resized_seeds, change=change_json),
}

"""Inputs that were answered with a traceback once, as small as they could be made."""

from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np
import pytest

from fuzzing.changes import DEEP, joined
from fuzzing.every import target
from sagelight.data.shards.index import read_index
from sagelight.errors import DataError

DEEP_JSON = DEEP.encode()
TINY_EXIF = b"\x02I\0"


def _array(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


def _spec(mean: str = "[0, 0, 0]", accuracy: str = "0.9") -> bytes:
    return f"""{{"labels": ["red"], "backbone": "net", "fingerprint": "", "provenance": {{}}, "format_version": 2,
        "preprocessing": {{"resize_size": 16, "image_size": 16, "mean": {mean}, "std": [1, 1, 1]}},
        "splits": {{"validation_fraction": 0, "test_fraction": 0, "split_seed": 0}},
        "quantization": {{"fp32_accuracy": 0.9, "int8_accuracy": {accuracy}, "photos": 2, "calibration_photos": 1}}}}
    """.encode()


FACTS = b'{"unreadable": %s, "sha256": "@sha256@", "rows": "@sha256@", "stamp": %s}'
CRASHES = {
    "interpolation-of-nothing": ("overrides.compose", b"data.root='${nope}'"),
    "interpolation-of-itself": ("overrides.compose", b"data.root='${data.root}'"),
    "interpolation-in-a-verb": ("overrides.verb", b"bundle='${x}'"),
    "interpolation-in-a-file": ("overrides.config_file", b"data: {root: '${x}'}"),
    "nested-override": ("overrides.grammar", b"a=" + b"[" * 1000 + b"]" * 1000),
    "range-without-end": ("overrides.sweep", b"optimizer.lr=range(0.0,1e300)"),
    "range-to-infinity": ("overrides.sweep", b"optimizer.lr=range(0,inf)"),
    "range-of-millions": ("overrides.sweep", b"data.batch_size=range(1,99999999999)"),
    "interval-beyond-floats": ("overrides.sweep", b"optimizer.lr=interval(0,1" + b"0" * 400 + b")"),
    "hyperparameters-are-a-list": ("overrides.hyperparameters", b"[[]]"),
    "hyperparameters-are-a-number": ("overrides.hyperparameters", b"7"),
    "hyperparameters-are-nested": ("overrides.hyperparameters", DEEP_JSON),
    "hyperparameter-is-a-number": (
        "overrides.hyperparameters",
        b'{"sagelight_overrides_0": 1}',
    ),
    "hyperparameter-of-no-number": (
        "overrides.hyperparameters",
        b'{"sagelight_overrides_x": "[]"}',
    ),
    "exif-of-three-bytes": ("images.exif", TINY_EXIF),
    "exif-cut-off": ("images.exif", b"\x02MM\0*\0\0\0"),
    "file-of-nothing": ("overrides.config_file", b"null"),
    "mapping-with-a-number-for-a-name": (
        "overrides.config_file",
        b"debugger: {parameters: {1: {patience: 2}}}",
    ),
    "mapping-with-a-date": ("overrides.config_file", b"debugger: {parameters: {a: 2024-01-01}}"),
    "head-and-more": ("requests.connection", b"HEAD /ping HTTP/1.0\r\n\r\n1.1\r\n\r\n"),
    "bundle-with-words-for-numbers": ("bundles.spec", _spec(mean='[0.485, 0.456, "nan"]')),
    "bundle-with-a-list-for-a-number": ("bundles.spec", _spec(accuracy="[[]]")),
    "nested-bundle": ("bundles.spec", DEEP_JSON),
    "record-with-a-long-number": ("trials.event", b"\0" + b"\xff" * 9 + b"\x7f"),
    "record-with-an-endless-number": ("trials.event", b"\xff" * 5000),
    "nested-index": ("trials.files", joined(DEEP_JSON, b"", DEEP_JSON)),
    "infinite-step": (
        "trials.files",
        joined(
            b'{"meta": {"event_file_name": "x", "mode": "TRAIN", "mode_step": 1e999},'
            b'"tensor_payload": [{"tensorname": "x", "start_idx": 0, "length": 1}]}',
            b"",
            b"{}",
        ),
    ),
    "facts-are-nested": ("stores.features", joined(DEEP_JSON, b"")),
    "features-of-another-shape": (
        "stores.features",
        joined(FACTS % (b"{}", b"[]"), _array([1.0])),
    ),
    "features-are-no-array": ("stores.features", joined(FACTS % (b"{}", b"[]"), b"\x93NUMPY")),
    "features-without-unreadable": (
        "stores.features",
        joined(b'{"sha256": "@sha256@"}', _array(np.ones((2, 3), np.float32))),
    ),
    "resized-photo-beyond-the-end": (
        "stores.resized",
        joined(FACTS % (b"{}", b'"@stamp@"'), _array([[0, 2**40, 2**40, 0]] * 2), b"xyz"),
    ),
    "resized-photos-are-unreadable": (
        "stores.resized",
        joined(FACTS % (b"[]", b'"@stamp@"'), _array([[0, 1, 1, 0]] * 2), b"xyz"),
    ),
    "stamp-is-empty": (
        "stores.resized",
        joined(FACTS % (b"{}", b"[]"), _array([[0, 1, 1, 0]] * 2), b"xyz"),
    ),
}


@pytest.mark.parametrize(("name", "data"), CRASHES.values(), ids=CRASHES)
def test_what_once_crashed_is_answered(name: str, data: bytes) -> None:
    target(name).execute(data)


def test_a_bundle_may_not_ask_for_pictures_of_gigabytes() -> None:
    [seed] = target("bundles.model").seeds()
    asked = seed.replace(b'"resize_size": 16', b'"resize_size": 999999999')
    assert asked != seed
    target("bundles.model").execute(asked)


@pytest.mark.parametrize(("place", "value"), [(0, 1), (2, 99)], ids=["encrypted", "packed-oddly"])
def test_an_index_that_zips_otherwise_is_refused(place: int, value: int) -> None:
    [seed] = target("stores.index").seeds()
    content = bytearray(seed)
    # The flags and the way of packing lie behind each signature, in the file and in its directory.
    for signature, behind in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = seed.find(signature)
        while at >= 0:
            content[at + behind + place] = value
            at = seed.find(signature, at + 1)
    with pytest.raises(DataError, match=r"index.npz is damaged"):
        read_index(bytes(content), "shards")
    target("stores.index").execute(bytes(content))


@pytest.mark.parametrize(
    "header",
    [b"{'descr': '<i4', 'shape': (", b"{'descr': '<i8', 'fortran_order': False, 'shape': (1099511627776,)}"],
    ids=["cut-off", "of-terabytes"],
)  # fmt: skip
def test_an_index_with_a_strange_array_is_refused(header: bytes) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        packed.writestr("facts.npy", start + header)
    with pytest.raises(DataError, match=r"index.npz is damaged"):
        read_index(file.getvalue(), "shards")


def test_fewer_resized_photos_than_there_are_are_made_again() -> None:
    one = np.array([[0, 3, 4, zlib.crc32(bytes(range(36)))]], np.int64)
    for count in (b"1", b"2"):
        facts = FACTS.replace(b"{", b'{"count": ' + count + b", ", 1) % (b"{}", b'"@stamp@"')
        target("stores.resized").execute(joined(facts, _array(one), bytes(range(36))))

"""Inputs that were answered with a traceback once, as small as they could be made."""

from __future__ import annotations

import io

import numpy as np
import pytest

from fuzzing.changes import DEEP, joined
from fuzzing.every import target

DEEP_JSON = DEEP.encode()
TINY_EXIF = b"\x02I\0"


def _array(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


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

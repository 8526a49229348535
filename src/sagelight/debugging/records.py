"""One tensor as smdebug keeps it: a TensorFlow event in a TFRecord, written and read without protobuf.

Source: smdebug 1.0.34 (core/tfevent, core/tfrecord), TensorFlow's event.proto, summary.proto and tensor.proto, and the
TFRecord format. smdebug puts the checksum of a constant where the payload's belongs, and looks for it when it reads.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.errors import DataError

# The numbers of tensorflow.DataType that smdebug writes.
DTYPES = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "int64": 9,
    "bool": 10,
    "float16": 19,
}
_NAMES = {number: name for name, number in DTYPES.items()}
MODES = {"TRAIN": 1, "EVAL": 2, "PREDICT": 3, "GLOBAL": 4}
_UNCHECKED = b"0x12345678"
_LARGEST = 2**64 - 1
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True)
class Place:
    """When a tensor was written.

    Attributes:
        step: of the whole run, from 0, over all modes.
        mode: one of `MODES`.
        mode_step: of the mode alone, from 0.
    """

    step: int
    mode: str
    mode_step: int


def encode(name: str, values: NDArray[Any], place: Place) -> bytes:
    """A tensor as one record.

    Args:
        values: of a type in `DTYPES`, of any shape.

    Raises:
        KeyError: of another type.
    """
    values = np.asarray(values)
    sizes = b"".join(
        _message(2, _number(1, size) + _message(2, f"{name}_{size}".encode()))
        for size in values.shape
    )
    tensor = (
        _number(1, DTYPES[values.dtype.name]) + _message(2, sizes) + _message(4, values.tobytes())
    )
    when = _plugin("mode_step", str(place.mode_step)) + _plugin("mode", str(MODES[place.mode]))
    value = _message(1, name.encode()) + _message(8, tensor) + _message(9, when)
    event = (
        struct.pack("<Bd", 1 << 3 | _EIGHT_BYTES, time.time())
        + _number(2, place.step)
        + _message(5, _message(1, value))
    )
    return sealed(event)


def sealed(event: bytes) -> bytes:
    """An event as a record: its length before it, and checksums."""
    length = struct.pack("<Q", len(event))
    return b"".join((length, _checksum(length), event, _checksum(_UNCHECKED)))


def decode(record: bytes) -> tuple[str, NDArray[Any]]:
    """A record's tensor by its name, read-only.

    Raises:
        DataError: the bytes are damaged, or no record of one tensor.
    """
    if len(record) < 16 or _checksum(record[:8]) != record[8:12]:
        raise DataError("the record's length does not match its checksum")
    (length,) = struct.unpack("<Q", record[:8])
    event = record[12 : 12 + length]
    if len(event) != length or record[12 + length : 16 + length] != _checksum(_UNCHECKED):
        raise DataError("the record is cut off")
    try:
        value = _one(_one(event, 5), 1)
        return _one(value, 1).decode(), _tensor(_one(value, 8))
    except (IndexError, KeyError, StopIteration, ValueError, OverflowError, struct.error) as error:
        raise DataError(f"the record holds no tensor ({error})") from error


def written_at(record: bytes) -> float:
    """When a record was written, in seconds since 1970.

    Raises:
        DataError: the bytes are damaged.
    """
    try:
        (seconds,) = struct.unpack("<d", _one(record[12:-4], 1))
        return float(seconds)
    except (IndexError, StopIteration, ValueError, struct.error) as error:
        raise DataError(f"the record does not say when it was written ({error})") from error


def _tensor(message: bytes) -> NDArray[Any]:
    dtype = np.dtype(_NAMES[int.from_bytes(_one(message, 1), "little")])
    shape = [
        int.from_bytes(_one(size, 1, b"\0"), "little") for size in _all(_one(message, 2, b""), 2)
    ]
    content = _one(message, 4, b"")
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _one(message: bytes, field: int, default: bytes | None = None) -> bytes:
    found = _all(message, field)
    return next(found) if default is None else next(found, default)


def _all(message: bytes, field: int) -> Iterator[bytes]:
    """The contents of a field; a number comes as its little-endian bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            number, after = _varint(message, at)
            content = number.to_bytes(8, "little")
        elif kind == _BYTES:
            size, at = _varint(message, at)
            after = at + size
            content = message[at:after]
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            after = at + (8 if kind == _EIGHT_BYTES else 4)
            content = message[at:after]
        else:
            raise ValueError(f"wire type {kind}")
        if after > len(message):
            raise ValueError("a field is cut off")
        if key >> 3 == field:
            yield content
        at = after


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 64, 7):
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & _LARGEST, at
    raise ValueError("a number has no end")


def _number(field: int, value: int) -> bytes:
    return _as_varint(field << 3 | _VARINT) + _as_varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _as_varint(field << 3 | _BYTES) + _as_varint(len(content)) + content


def _plugin(name: str, content: str) -> bytes:
    return _message(1, _message(1, name.encode()) + _message(2, content.encode()))


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 if value & 1 else value >> 1
        table.append(value)
    return table


_TABLE = _crc_table()


def _checksum(content: bytes) -> bytes:
    """CRC-32C, masked as TFRecord masks it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)

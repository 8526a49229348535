"""Changes that keep an input's structure, so that what lies behind the parser is reached, too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from fuzzing.target import Change

# Between the parts of an input that stands for several files.
BETWEEN = b"\n=====\n"
DEEP = "[" * 5000
# What readers seldom expect where they expect a value.
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    2**31,
    -(2**63),
    2**64,
    1.5,
    -0.0,
    float("inf"),
    float("nan"),
    "",
    "0",
    "nan",
    "\0",
    "\udcff",
    "../../x",
    "/",
    "${x}",
    "@deep@",
    [],
    [[]],
    [0, 0, 0],
    {},
    {"": {}},
)


def joined(*parts: bytes) -> bytes:
    """One input of several parts."""
    return BETWEEN.join(parts)


def parts_of(data: bytes, count: int) -> list[bytes]:
    """So many parts of an input; those that it lacks are empty."""
    found = data.split(BETWEEN, count - 1)
    return [*found, *[b""] * (count - len(found))]


def change_bytes(random: Random, data: bytes) -> bytes:
    """Replace, remove, repeat or insert some bytes, once to four times."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(changed))
        end = min(len(changed), at + random.choice((0, 1, 1, 2, 4, 8, 64)))
        new = random.choice((b"", b"\0", b"\xff", b"\x7f" * 4, bytes(changed[at:end]) * 2))
        changed[at:end] = new or random.randbytes(end - at)
    return bytes(changed)


def change_json(random: Random, data: bytes) -> bytes:
    """Change a value of one of an input's parts that are JSON; where none is, its bytes."""
    parts = data.split(BETWEEN)
    number = random.randrange(len(parts))
    try:
        value = json.loads(parts[number])
    except (ValueError, RecursionError):
        return change_bytes(random, data)
    for _ in range(random.randint(1, 2)):
        value = _changed(random, value, value)
    text = json.dumps(value).replace('"@deep@"', DEEP)
    parts[number] = text.encode()
    return BETWEEN.join(parts)


def change_words(words: Sequence[str]) -> Change:
    """Put words of a grammar into a text, or in place of others."""

    def change(random: Random, data: bytes) -> bytes:
        text = data.decode(errors="replace")
        for _ in range(random.randint(1, 3)):
            at = random.randint(0, len(text))
            end = min(len(text), at + random.choice((0, 0, 1, 3, 10)))
            text = text[:at] + random.choice(words) + text[end:]
        return text.encode()

    return change


def _changed(random: Random, value: Any, whole: Any) -> Any:
    if not isinstance(value, dict | list) or not value or random.random() < 0.15:
        return _another(random, value, whole)
    if isinstance(value, dict):
        key = random.choice(list(value))
        left = {k: v for k, v in value.items() if k != key}
        odd = random.random()
        if odd < 0.1:
            return left
        if odd < 0.2:
            return {**left, random.choice(("", "x", key * 2)): value[key]}
        return {**value, key: _changed(random, value[key], whole)}
    place = random.randrange(len(value))
    if random.random() < 0.2:
        return value[:place] + value[place + 1 :] * random.randint(1, 2)
    return [*value[:place], _changed(random, value[place], whole), *value[place + 1 :]]


def _another(random: Random, value: Any, whole: Any) -> Any:
    odd = random.random()
    if odd < 0.1:
        return [value, value]
    if odd < 0.2:
        return whole
    if odd < 0.5 and isinstance(value, int) and not isinstance(value, bool):
        return value + random.choice((-1, 1, -1000, 1000, 2**31, 2**62))
    if odd < 0.4 and isinstance(value, str):
        return random.choice((value * 2, value[:-1], value + "/..", value.upper()))
    return random.choice(ODD)

"""Faults of a network and of the services behind it, and plans of which request meets which."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

# The line: cut before the request was read, or after it was done and before its answer; the answer comes late but in
# time, in small pieces, or so late that nobody waits for it; it ends in the middle.
DROP_BEFORE, DROP_AFTER, SLOW, TRICKLE, STALL, TRUNCATE = (
    "drop before",
    "drop after",
    "slow",
    "trickle",
    "stall",
    "truncate",
)
# The service: too many requests; an error of its own, before or after it did what it was asked.
THROTTLE, ERROR, ERROR_AFTER = "throttle", "error 500", "error 500 after"
# This machine's clock is wrong; and the sign-in page of a hotel's network in place of an answer.
SKEW, PAGE = "clock skew", "sign-in page"
KINDS = (
    DROP_BEFORE, DROP_AFTER, SLOW, TRICKLE, STALL, TRUNCATE, THROTTLE, ERROR, ERROR_AFTER, SKEW, PAGE,
)  # fmt: skip
# What comes and goes; a wrong clock stays, and is refused at once.
PASSING = tuple(kind for kind in KINDS if kind != SKEW)

# What meets a request: of its operation, the how many-th of that operation, and the how many-th of all, from 1.
Plan = Callable[[str, int, int], str | None]


def healthy(operation: str, count: int, total: int) -> None:
    """No fault."""


def at(operation: str, count: int, kind: str, times: int = 1) -> Plan:
    """One operation, from its `count`-th request on, so many times."""

    def plan(asked: str, nth: int, total: int) -> str | None:
        return kind if asked == operation and count <= nth < count + times else None

    return plan


def storm(seed: int, rate: float, kinds: Sequence[str] = PASSING) -> Plan:
    """Every request with this probability."""
    chance = random.Random(seed)

    def plan(asked: str, nth: int, total: int) -> str | None:
        return chance.choice(kinds) if chance.random() < rate else None

    return plan


def outage(first: int, length: int, kind: str) -> Plan:
    """So many requests in a row, from the `first` of all on."""

    def plan(asked: str, nth: int, total: int) -> str | None:
        return kind if first <= total < first + length else None

    return plan

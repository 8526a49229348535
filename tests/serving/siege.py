"""Hostile requests against a real server, on several connections at once, and what came of each."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from serving.attacks import Attack, attack, encoded
from serving.servers import Server, serving

CONNECTIONS = 16
# What a server that is attacked is given for headers and bodies; default would be 20.
RECEIVE_SECONDS = 2.0
MOST_SECONDS = 15.0
MOST_MIB = 1024
GOOD_EVERY = 100
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Outcome:
    """What came of one request: a status, or None for a connection that was closed without."""

    family: str
    seed: int
    status: int | None
    reason: str
    seconds: float
    wrong: str


@dataclass
class Siege:
    """What came of all, and what is wrong with the server itself."""

    outcomes: list[Outcome] = field(default_factory=list)
    good: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def violations(self) -> list[str]:
        found = [
            f"{each.family}, seed {each.seed}: {each.wrong}" for each in self.outcomes if each.wrong
        ]
        return self.wrong + found

    def families(self) -> dict[str, list[Outcome]]:
        found: dict[str, list[Outcome]] = {}
        for each in self.outcomes:
            found.setdefault(each.family, []).append(each)
        return found


def besiege(
    bundle: Path,
    requests: Sequence[tuple[str, int]],
    guard: Path,
    watch: Callable[[int], None] = lambda done: None,
) -> Siege:
    """Send all of it to a server of `bundle` whose every connection outwards, process or file is noted in `guard`."""
    siege = Siege()
    with serving(bundle, f"receive_seconds={RECEIVE_SECONDS}", guard=guard) as server:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for number, outcome in enumerate(pool.map(lambda pair: _sent(server, *pair), requests)):
                siege.outcomes.append(outcome)
                watch(number)
                if number % GOOD_EVERY == 0:
                    _ask_good(server, number, siege)
        _ask_good(server, len(requests), siege)
        siege.memory = server.memory()
        code = server.stop()
    if code:
        siege.wrong.append(f"the server ended with {code}")
    faults = [str(line) for line in server.lines if line["event"] == "fault"]
    siege.wrong += faults[:5] + [line for line in server.errors if "answers until" not in line][:5]
    if guard.exists():
        siege.wrong.append(f"forbidden: {guard.read_text()[:500]}")
    if siege.memory["VmHWM"] > MOST_MIB:
        siege.wrong.append(f"{siege.memory['VmHWM']} MiB of memory")
    return siege


def _ask_good(server: Server, number: int, siege: Siege) -> None:
    body = encoded(random.Random(number))
    answer = server.label(body)
    siege.good += 1
    if answer.status != 200:
        siege.wrong.append(f"a good photo after {number}: {answer.status} {answer.body[:200]!r}")


def _sent(server: Server, family: str, seed: int) -> Outcome:
    made = attack(family, seed)
    started = time.monotonic()
    with server.connection() as raw:
        status, body = _answer(raw, made)
    seconds = time.monotonic() - started
    reason = _reason(body)
    return Outcome(family, seed, status, reason, seconds, _wrong(made, status, reason, seconds))


def _answer(raw: socket.socket, made: Attack) -> tuple[int | None, bytes]:
    raw.settimeout(MOST_SECONDS + 5)
    # Who refuses early may have closed before everything is sent; the answer may be there all the same.
    with contextlib.suppress(OSError):
        raw.sendall(made.sent)
    if made.reset:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return None, b""
    if not made.stall:
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
    if made.drip:
        _drip(raw, made.drip)
    response = http.client.HTTPResponse(raw)
    try:
        response.begin()
        return response.status, response.read()
    except (http.client.HTTPException, OSError):
        return None, b""
    finally:
        response.close()


def _drip(raw: socket.socket, piece: bytes) -> None:
    raw.settimeout(0.2)
    deadline = time.monotonic() + MOST_SECONDS
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                if raw.recv(1, socket.MSG_PEEK) is not None:
                    break
            raw.sendall(piece)
    raw.settimeout(5)


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""


def _wrong(made: Attack, status: int | None, reason: str, seconds: float) -> str:
    if seconds > MOST_SECONDS:
        return f"{seconds:.1f} seconds"
    if status is None:
        return "" if made.mute else "no answer"
    if status == 200 and made.whole:
        return ""
    if not 400 <= status < 500:
        return f"answered {status} {reason}"
    if not reason or "Traceback" in reason:
        return f"{status} without a reason: {reason!r}"
    return ""


def table(siege: Siege) -> str:
    """A row for each family: requests, statuses, longest time."""
    lines = [f"{'':34} {'requests':>8}  {'longest s':>9}  {'wrong':>5}  answers"]
    for family, outcomes in sorted(siege.families().items()):
        statuses = Counter(str(each.status or "closed") for each in outcomes)
        shown = ", ".join(f"{status} x {count:,}" for status, count in sorted(statuses.items()))
        longest = max(each.seconds for each in outcomes)
        wrong = sum(bool(each.wrong) for each in outcomes)
        lines.append(f"{family:34} {len(outcomes):8,}  {longest:9.2f}  {wrong:5}  {shown}")
    return "\n".join(lines)

"""Inputs that nobody has thought of, by a coverage-guided fuzzer, for everything that comes from outside.

    python benchmarks/fuzz.py executions=1000000 target=all seed=1 minutes=0 turn=60 folder=runs/fuzz

runs every target of tests/fuzzing, or those whose names begin with `target`, each in processes of its own, until it has
its share of the executions, or `minutes` are over (0: never); each has `turn` seconds at a time. Whatever a target answers beside its documented refusals is a
crash: its smallest input stays in FOLDER/TARGET/crashes, and goes to FOLDER/TARGET/mended when it is answered rightly.
The same command goes on where it was interrupted. Exits with 1 while there are open crashes.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

from sagelight.bundle.provenance import cpu_name

PROGRAM = Path(__file__).with_name("fuzz_target.py")
# For an input that is asked again.
SPARE_SECONDS = 600
Server = subprocess.Popen[str]
# A target whose processes end without one execution is given up.
BARREN = 3


@dataclass
class Words:
    executions: int = 1_000_000
    target: str = "all"
    seed: int = 1
    minutes: float = 0
    turn: int = 60
    folder: str = "runs/fuzz"


@dataclass
class State:
    """How far a target is; kept in its folder."""

    seconds: float = 0.0
    turns: int = 0
    branches: int = 0
    inputs: int = 0
    barren: int = field(default=0, repr=False)


def main() -> int:
    words = _words(sys.argv[1:])
    folder = Path(words.folder).absolute()
    try:
        atheris = version("atheris")
    except PackageNotFoundError:
        print("error: atheris is not installed. Type make fuzz.", file=sys.stderr)
        return 2
    # In place of this folder, whose serving.py would hide that of the tests.
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")
    plan = _plan(words)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_memory()) as scratch:
        for name in plan:
            _settle(name, folder / name, scratch)
        _run(plan, words, folder, scratch)
        for name in plan:
            _settle(name, folder / name, scratch)
    report = _report(plan, words, folder, atheris)
    (folder / "fuzz.json").write_text(json.dumps(report, indent=2) + "\n")
    print(_table(report))
    return 1 if report["open_crashes"] else 0


def _words(typed: list[str]) -> Words:
    known = asdict(Words())
    given: dict[str, Any] = {}
    for word in typed:
        key, _, value = word.partition("=")
        if key not in known:
            sys.exit(f"error: {word}: choose among {', '.join(known)}, as in executions=1000000")
        given[key] = type(known[key])(value)
    return Words(**given)


def _plan(words: Words) -> dict[str, int]:
    """Executions of each target."""
    from fuzzing.every import SHARES

    chosen = [n for n in SHARES if words.target == "all" or n.startswith(words.target)]
    if not chosen:
        sys.exit(f"error: target={words.target}: there are {', '.join(SHARES)}")
    total = sum(SHARES[name] for name in chosen)
    return {name: -(-words.executions * SHARES[name] // total) for name in chosen}


def _run(plan: dict[str, int], words: Words, folder: Path, scratch: str) -> None:
    """Turn by turn, so that all have had theirs whenever this is interrupted."""
    until = time.monotonic() + words.minutes * 60 if words.minutes else float("inf")
    while waiting := [name for name in plan if _goes_on(folder / name, plan[name])]:
        for room, names in groupby(waiting, key=lambda name: name.partition(".")[0]):
            if time.monotonic() >= until:
                return
            with _served(room, folder, scratch) as server:
                for name in names:
                    left = min(words.turn, until - time.monotonic())
                    if left > 1:
                        _turn(server, folder / name, plan[name], words.seed, int(left))


def _goes_on(folder: Path, planned: int) -> bool:
    for part in ("corpus", "crashes"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return _done(folder) < planned and _state(folder).barren < BARREN


def _turn(server: Server, folder: Path, planned: int, seed: int, seconds: int) -> None:
    """Fuzz a target for a while."""
    state, done = _state(folder), _done(folder)
    started = time.monotonic()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{folder.name} {planned - done} {seed * 1000 + state.turns} {seconds}\n")
    server.stdin.flush()
    server.stdout.readline()
    state.seconds += time.monotonic() - started
    state.turns += 1
    state.barren = 0 if _done(folder) > done else state.barren + 1
    log = folder / "log"
    covered = re.findall(r"cov: (\d+)", log.read_text(errors="replace") if log.exists() else "")
    state.branches = max(state.branches, int(covered[-1]) if covered else 0)
    state.inputs = len(list((folder / "corpus").iterdir()))
    (folder / "state.json").write_text(json.dumps(asdict(state)))
    print(f"{folder.name:26} {_done(folder):>9,} of {planned:,}", file=sys.stderr)


@contextmanager
def _served(room: str, folder: Path, scratch: str) -> Iterator[Server]:
    """The process that has loaded a room; it and its own end with the block."""
    server = subprocess.Popen(
        [sys.executable, str(PROGRAM), room, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(scratch),
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        if server.stdout.readline().strip() != room:
            sys.exit(f"error: {PROGRAM.name} {room} does not start")
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.communicate()
        _empty(scratch)


def _environment(scratch: str) -> dict[str, str]:
    return os.environ | {"TMPDIR": scratch, "OMP_NUM_THREADS": "1"}


def _is_answered(name: str, path: Path, scratch: str) -> bool:
    """Whether a target answers an input as it should, in a process of its own."""
    command = [sys.executable, str(PROGRAM), "replay", name, str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=SPARE_SECONDS, env=_environment(scratch)
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        _empty(scratch)
    return done.returncode == 0


def _empty(scratch: str) -> None:
    for left in Path(scratch).iterdir():
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()


def _settle(name: str, folder: Path, scratch: str) -> None:
    """Ask every crash again, and move those away that are answered rightly now."""
    mended = folder / "mended"
    for path in _crashes(folder):
        if _is_answered(name, path, scratch):
            mended.mkdir(exist_ok=True)
            for each in (path, path.with_name(f"{path.name}.txt")):
                if each.exists():
                    each.replace(mended / each.name)


def _crashes(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("crashes/*") if path.suffix != ".txt")


def _state(folder: Path) -> State:
    path = folder / "state.json"
    return State(**json.loads(path.read_text())) if path.is_file() else State()


def _done(folder: Path) -> int:
    path = folder / "executions"
    if not path.is_file():
        path.write_bytes(bytes(8))
    return int(struct.unpack("<Q", path.read_bytes())[0])


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _report(plan: dict[str, int], words: Words, folder: Path, atheris: str) -> dict[str, Any]:
    targets = {}
    for name, planned in plan.items():
        state = _state(folder / name)
        targets[name] = {
            "executions": _done(folder / name),
            "planned": planned,
            "seconds": round(state.seconds, 1),
            "branches": state.branches,
            "inputs": state.inputs,
            "mended": len([p for p in (folder / name).glob("mended/*") if p.suffix != ".txt"]),
            "open": [path.name for path in _crashes(folder / name)]
            + (["does not start"] if state.barren else []),
        }
    return {
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "atheris": atheris,
        "words": asdict(words),
        "executions": sum(each["executions"] for each in targets.values()),
        "open_crashes": sum(len(each["open"]) for each in targets.values()),
        "targets": targets,
    }


def _table(report: dict[str, Any]) -> str:
    lines = [
        "| target | executions | seconds | branches | inputs kept | crashes mended | open |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in report["targets"].items():
        shown = ", ".join(each["open"]) or "0"
        lines.append(
            f"| {name} | {each['executions']:,} | {each['seconds']:,.0f} | {each['branches']:,} | "
            f"{each['inputs']:,} | {each['mended']} | {shown} |"
        )
    machine = report["machine"]
    lines.append(
        f"\n{report['executions']:,} executions, {report['open_crashes']} open crashes; atheris "
        f"{report['atheris']}, Python {machine['python']}, {machine['cores']} cores, {machine['cpu']}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""The fuzz targets of a room, each in a forked process; benchmarks/fuzz.py starts it.

    python benchmarks/fuzz_target.py ROOM FOLDER            fuzz as lines of standard input say: TARGET RUNS SEED SECONDS
    python benchmarks/fuzz_target.py replay TARGET FILE     run one input, and raise what it raises

A room is loaded once: that takes seconds, and a target has a turn of a minute.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzzing.target import Target

# What decides by an input's bytes; torch, numpy and the rest would only take time to count.
COUNTED = [
    *("sagelight", "hydra.core.override_parser", "hydra._internal.grammar", "omegaconf", "yaml"),
    *("PIL", "h11", "starlette.requests", "uvicorn.protocols.http", "tarfile", "zipfile"),
]
# For a process that is stuck where libFuzzer cannot end it.
SPARE_SECONDS = 600
# Beyond what a process takes when it has loaded everything.
ROOM = 3 << 30
# libFuzzer ends a process that hangs so long by the clock, on a machine that may have other work; what takes more of the
# processor than its target's limit is kept long before.
HANGS_SECONDS = 300
MOST_RESIDENT_MB = 6000


def main() -> None:
    # In place of this folder, whose serving.py would hide that of the tests.
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")
    if sys.argv[1] == "replay":
        replay(sys.argv[2], Path(sys.argv[3]))
    else:
        serve(sys.argv[1], Path(sys.argv[2]))


def serve(room: str, folder: Path) -> None:
    """Answers every line with its target's name when the turn is over."""
    import atheris

    with atheris.instrument_imports(include=COUNTED, enable_loader_override=False):
        import_module(f"fuzzing.{room}")
    print(room, flush=True)
    for line in sys.stdin:
        name, runs, seed, seconds = line.split()
        process = os.fork()
        if not process:
            _speak_into(folder / name / "log")
            fuzz(name, folder / name, int(runs), int(seed), int(seconds))
        _wait(process, int(seconds) + SPARE_SECONDS)
        print(name, flush=True)


def _speak_into(path: Path) -> None:
    with path.open("wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)


def _wait(process: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def replay(name: str, path: Path) -> None:
    """Raises what the target does, or AssertionError for an input that takes too long."""
    from fuzzing.every import target

    found = target(name)
    for seed in found.seeds()[:1]:
        # What is loaded at first use counts for no input.
        found.execute(seed)
    started = time.process_time()
    found.execute(path.read_bytes())
    took = time.process_time() - started
    assert took <= found.seconds, f"{took:.1f} s"


def fuzz(name: str, folder: Path, runs: int, seed: int, seconds: int) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    from fuzzing.every import target

    found = target(name)
    with atheris.instrument_imports(include=COUNTED, enable_loader_override=False):
        for number, content in enumerate(found.seeds()):
            (folder / "corpus" / f"seed-{number}").write_bytes(content)
            found.execute(content)
    keeper = Keeper(found, folder)
    words = [
        f"-runs={runs}",
        f"-seed={seed}",
        f"-max_total_time={seconds}",
        f"-max_len={max(found.most_bytes, *(len(each) for each in found.seeds()))}",
        f"-timeout={HANGS_SECONDS}",
        f"-rss_limit_mb={MOST_RESIDENT_MB}",
        f"-artifact_prefix={folder}/crashes/interpreter-",
        # What decoders say of damaged photos would fill the disk; libFuzzer's own words still come.
        "-close_fd_mask=3",
        str(folder / "corpus"),
    ]

    def mutate(data: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        if found.change is not None and random.random() < 0.5:
            return found.change(random, data)[:most]
        return bytes(atheris.Mutate(data, most))

    _limit_memory()
    atheris.Setup([sys.argv[0], *words], keeper.once, custom_mutator=mutate)
    atheris.Fuzz()


class Keeper:
    """Runs a target, counts, and keeps the smallest input of every crash; the fuzzer itself sees none."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._folder = folder / "crashes"
        with (folder / "executions").open("r+b") as file:
            # Counted in shared memory, which outlives an interpreter that crashes.
            self._count = mmap.mmap(file.fileno(), 8)
        self._done = struct.unpack("<Q", self._count[:])[0]

    def once(self, data: bytes) -> None:
        self._done += 1
        self._count[:] = struct.pack("<Q", self._done)
        started = time.process_time()
        try:
            self._target.execute(data)
        except (Exception, SystemExit) as error:
            self._keep(_named(error), data, traceback.format_exc())
        took = time.process_time() - started
        if took > self._target.seconds:
            self._keep("slow", data, f"{took:.1f} s\n")

    def _keep(self, name: str, data: bytes, why: str) -> None:
        path = self._folder / name
        if not path.exists() or path.stat().st_size > len(data):
            path.write_bytes(data)
            path.with_name(f"{name}.txt").write_text(why, encoding="utf-8", errors="replace")


def _named(error: BaseException) -> str:
    """By what was raised, and the last line of ours that it left."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if "sagelight" in each.filename or "fuzzing" in each.filename]
    last = (ours or frames)[-1]
    return (
        f"{type(error).__name__}-{Path(last.filename).stem}-{last.name.strip('<>')}-{last.lineno}"
    )


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()

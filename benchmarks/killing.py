"""Commands that are forked, so that a kill costs a second and not the import of torch; and photos for them."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sagelight.forking import get_ready

# Threads of a pool do not survive a fork.
os.environ.setdefault("OMP_NUM_THREADS", "1")

Door = Callable[[list[str]], int]
# A disk that takes its time, so that many kills find a file half written.
FLUSH_SECONDS = 0.02
LONGEST_SECONDS = 120.0
LOG, FLUSHED = "log.txt", "flushed.txt"


def make_photos(root: Path, count: int, side: int = 32) -> None:
    """`count` photos of each of three classes, which differ in brightness, under noise."""
    rng = np.random.default_rng(0)
    for label, level in (("dark", 60), ("grey", 120), ("light", 190)):
        (root / label).mkdir(parents=True)
        for number in range(count):
            pixels = rng.normal(level, 40, (side, side, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number:04d}.png")


@dataclass
class Command:
    """A running command, the leader of a process group of its own.

    Attributes:
        code: its exit code, negative for a signal; None while it runs.
    """

    pid: int
    code: int | None = None

    def over(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def over_within(self, seconds: float) -> bool:
        """Wait so long for its end at most."""
        deadline = time.monotonic() + seconds
        while not self.over() and time.monotonic() < deadline:
            time.sleep(0.003)
        return self.over()

    def send(self, number: signal.Signals, group: bool = True) -> None:
        """Nothing where it has ended already."""
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except ProcessLookupError:
            return

    def end(self) -> None:
        """Kill whatever runs of it."""
        self.send(signal.SIGKILL)
        self.over_within(LONGEST_SECONDS)


def start(words: Sequence[str], folder: Path, door: Door) -> Command:
    """Start a command in `folder`, where it leaves what it says and which files it has flushed.

    It is forked from this process, which has best run one like it, so that everything is loaded.
    """
    # A command that is killed while it asks for a process takes the server along, which is its own outside of here.
    get_ready("sagelight.training.fit")
    pid = os.fork()
    if pid:
        return Command(pid)
    code = 1
    try:
        _prepare(folder)
        code = door(list(words))
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare(folder: Path) -> None:
    os.setsid()
    os.chdir(folder)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The server is the first process's child, so this one cannot ask after it; it is running.
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server.ensure_running = forkserver.ensure_running = lambda: None
    _note_flushes()


def _note_flushes() -> None:
    """What a power cut leaves alone is told by os.fsync: file, size and time of change."""
    journal = os.open(FLUSHED, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def fsync(file: Any) -> None:
        time.sleep(FLUSH_SECONDS)
        state = os.fstat(file if isinstance(file, int) else file.fileno())
        os.write(journal, f"{state.st_ino} {state.st_size} {state.st_mtime_ns}\n".encode())
        time.sleep(FLUSH_SECONDS)

    os.fsync = fsync

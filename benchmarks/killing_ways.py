"""Ways to end a command that does not expect it, and what the disk looks like afterwards."""

from __future__ import annotations

import random
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from killing import FLUSHED, LOG, LONGEST_SECONDS, Command

Way = Callable[[Command, Path, random.Random], None]
STARVING_SECONDS = 15.0
# What SQLite writes it flushes by itself, where nobody notes it.
_NOT_CUT = (FLUSHED, LOG, ".lock", "study.db", "study.db-journal")
# Of a run, what a service that copies files while they are written may have torn.
_TORN = ("last.ckpt", "best.ckpt", "metrics.csv", "metrics.json", "check.json")


def killed(command: Command, folder: Path, chance: random.Random) -> None:
    """SIGKILL, to the command alone: the processes that it has started are left behind."""
    command.send(signal.SIGKILL, group=False)


def stopped(command: Command, folder: Path, chance: random.Random) -> None:
    """SIGTERM, and 120 seconds."""
    command.send(signal.SIGTERM)


def stopped_at_once(command: Command, folder: Path, chance: random.Random) -> None:
    """SIGTERM, and SIGKILL within a fifth of a second."""
    command.send(signal.SIGTERM)
    command.over_within(chance.uniform(0, 0.2))
    command.send(signal.SIGKILL)


def interrupted(command: Command, folder: Path, chance: random.Random) -> None:
    """Ctrl-C, and half of the time another one."""
    command.send(signal.SIGINT)
    if chance.random() < 0.5 and not command.over_within(chance.uniform(0, 0.3)):
        command.send(signal.SIGINT)


def starved(command: Command, folder: Path, chance: random.Random) -> None:
    """No more memory than it has: whatever it asks for from now on is refused; after a while it is killed.

    Python waits for ever for a thread that got too little memory to begin.
    """
    try:
        pages = int(Path(f"/proc/{command.pid}/statm").read_text().split()[0])
        most = pages * resource.getpagesize()
        resource.prlimit(command.pid, resource.RLIMIT_AS, (most, most))
    except (FileNotFoundError, ProcessLookupError):
        return
    command.over_within(STARVING_SECONDS)
    command.send(signal.SIGKILL)


def cut_off(command: Command, folder: Path, chance: random.Random) -> None:
    """A power cut: all of it ends at once, and of what was not flushed, anything may be on the disk."""
    command.end()
    for path in _not_flushed(folder):
        damage(path, chance)


def torn(command: Command, folder: Path, chance: random.Random) -> None:
    """SIGKILL, and one or two files as they are when copied in the middle of being written."""
    command.end()
    there = sorted(path for path in folder.rglob("*") if path.name in _TORN)
    for path in chance.sample(there, min(len(there), chance.randint(1, 2))):
        damage(path, chance)


WAYS: dict[str, Way] = {
    "SIGKILL": killed,
    "SIGTERM": stopped,
    "SIGTERM, SIGKILL": stopped_at_once,
    "Ctrl-C": interrupted,
    "out of memory": starved,
    "power cut": cut_off,
    "torn copy": torn,
}


def end(way: str, command: Command, folder: Path, chance: random.Random) -> bool:
    """End a command so; gives whether that is what ended it."""
    WAYS[way](command, folder, chance)
    command.over_within(LONGEST_SECONDS)
    in_time = command.over()
    if way != "SIGKILL":
        command.end()
    return not in_time or command.code != 0


def damage(path: Path, chance: random.Random) -> None:
    """Cut a file off, empty it, fill its end or one block of it with zeros, or leave it alone."""
    content = path.read_bytes()
    place = chance.randrange(len(content) + 1)
    block = content[:place] + bytes(len(content[place : place + 4096])) + content[place + 4096 :]
    ends = (
        content[:place],
        b"",
        content[:place] + bytes(len(content) - place),
        block,
        content,
    )
    # A new file in its place, as other names of the old one are whole.
    path.unlink()
    path.write_bytes(chance.choice(ends))


def _not_flushed(folder: Path) -> list[Path]:
    flushed = set((folder / FLUSHED).read_text().splitlines())
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.startswith(_NOT_CUT):
            state = path.stat()
            if f"{state.st_ino} {state.st_size} {state.st_mtime_ns}" not in flushed:
                found.append(path)
    return found

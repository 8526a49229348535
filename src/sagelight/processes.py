"""One training in several processes, as torchrun starts them: one per GPU, on one machine or more.

The first process decides, writes and speaks; the others train along and are silent.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

from sagelight.errors import SagelightError

T = TypeVar("T")
REFUSED = 2
# The others wait while the first looks at the photos. A process that dies takes the rest with it at once.
LONGEST_WAIT = timedelta(hours=2)
_MANY_OBJECTS = 100_000
_USUALLY = gc.get_threshold()


def collect_rarely() -> None:
    """Start and end this process without searching for garbage among all that torch loads, seconds of it."""
    gc.set_threshold(_MANY_OBJECTS)
    atexit.register(gc.freeze)


def collect_as_usual() -> None:
    """Search for garbage as often as Python does, before tensors could be part of it."""
    gc.set_threshold(*_USUALLY)


def is_member() -> bool:
    """Whether torchrun, or its launcher, has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def hear_stop() -> None:
    """Let SIGTERM stop this process; a Ctrl-C goes to the one that started it, which passes it on so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_at_sigterm()


def stop_at_sigterm() -> None:
    """Let SIGTERM stop this process once, wherever it is, as Ctrl-C stops a single one.

    Lightning's own handler would have the processes agree on it, in the middle of whatever else they agree on.
    """
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


@dataclass(frozen=True)
class Processes:
    """Which process this is, of how many; `local` counts those of this machine.

    Source: the environment variables that torchrun documents.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def here(cls) -> Processes:
        """As torchrun says, or a single process where it did not start this one."""
        if not is_member():
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def first(self) -> bool:
        """Whether this process decides, writes and speaks."""
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Whether this process prepares what the processes of its machine share."""
        return self.local_rank == 0

    @property
    def machines(self) -> int:
        return self.size // self.local_size

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Connect the processes for the length of the block; Lightning uses the same connection."""
        if self.size == 1:
            yield
            return
        import torch.distributed

        torch.distributed.init_process_group(timeout=LONGEST_WAIT)
        yield
        # After an error the others may wait for this process for ever; its end is what frees them.
        torch.distributed.destroy_process_group()

    def once(self, work: Callable[[], T]) -> T:
        """Do something in the first process; what it returns is known to all of them.

        Raises:
            SagelightError: as `work` does, in the first process, which reports it.
            SystemExit: in the others at the same time, with 2.
        """
        if self.size == 1:
            return work()
        found: list[object] = [None, False]
        if self.first:
            try:
                found = [work(), True]
            except SagelightError:
                self._tell(found)
                raise
        self._tell(found)
        if not found[1]:
            raise SystemExit(REFUSED)
        return cast("T", found[0])

    def gather(self, number: int) -> list[int]:
        """The numbers of all processes, by rank. It travels past the GPUs, which need not wait for it."""
        if self.size == 1:
            return [number]
        import torch.distributed

        numbers = torch.zeros(self.size, dtype=torch.int64)
        numbers[self.rank] = number
        torch.distributed.all_reduce(numbers)
        return cast("list[int]", numbers.tolist())

    def _tell(self, found: list[object]) -> None:
        import torch.distributed

        torch.distributed.broadcast_object_list(found)

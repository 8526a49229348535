"""Processes that train trials, as many as are asked for, each free for the next as soon as it is done.

They are forked from one that has torch and Lightning already, so a trial begins at once. Each asks after every epoch
whether it shall go on; the parent answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from sagelight.forking import FORKING, get_ready


@dataclass(frozen=True)
class Task:
    """Work for one process.

    Attributes:
        kind: `features` computes what the heads of later tasks are trained on; `heads` trains all trials in one
            pass; `fit` trains one trial.
        trials: number and overrides of each.
        folder: the study's.
        threads: that PyTorch may use.
    """

    kind: Literal["features", "heads", "fit"]
    trials: tuple[tuple[int, tuple[str, ...]], ...]
    folder: Path
    threads: int


@dataclass(frozen=True)
class Epoch:
    """The figures of a trial's epoch; the process waits for `Worker.answer`."""

    number: int
    row: dict[str, float]


@dataclass(frozen=True)
class Ended:
    """A trial has ended; `reason` says why it failed and is empty where it did not."""

    number: int
    reason: str = ""


@dataclass(frozen=True)
class Computed:
    """How many photos have gone through a backbone."""

    photos: int


@dataclass(frozen=True)
class Doing:
    """How far something long has come, in batches."""

    label: str
    done: int
    total: int


@dataclass(frozen=True)
class Died:
    """A process has ended without saying so: killed, or out of memory."""

    exitcode: int | None


Message = Epoch | Ended | Computed | Doing | Died


class Worker:
    """One process and the task that it works on."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.connection, theirs = FORKING.Pipe()
        self.process = FORKING.Process(target=_work, args=(theirs, task), daemon=False)
        self.process.start()
        theirs.close()

    def answer(self, stop: bool) -> None:
        """Let the trial that has reported an epoch go on, or end it."""
        try:
            self.connection.send(stop)
        except OSError:
            # It has died; its end is reported by `Pool.messages`.
            return


class Pool:
    """The processes that work at the moment."""

    def __init__(self) -> None:
        get_ready("sagelight.tuning.worker")
        self.workers: list[Worker] = []

    def start(self, task: Task) -> None:
        self.workers.append(Worker(task))

    def messages(self, seconds: float) -> Iterator[tuple[Worker, Message]]:
        """What the processes have said, waiting for the first of it at most so long; a process that ends leaves."""
        by_connection: dict[Any, Worker] = {worker.connection: worker for worker in self.workers}
        for ready in wait(list(by_connection), seconds):
            assert isinstance(ready, Connection)
            worker = by_connection[ready]
            try:
                yield worker, ready.recv()
            except (EOFError, OSError):
                worker.process.join()
                self.workers.remove(worker)
                ready.close()
                if worker.process.exitcode != 0:
                    yield worker, Died(worker.process.exitcode)

    def close(self) -> None:
        """End what still works."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.connection.close()
        self.workers.clear()


def _work(connection: Connection, task: Task) -> None:
    # Only the process that works needs torch.
    from sagelight.tuning.worker import work

    work(connection, task)

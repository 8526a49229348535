"""AWS's own `train` program of the sagemaker-training toolkit, as a process.

The program imports torch before it starts ours, seconds each time. Its processes are therefore forked from one
that has torch already, which begins to load it when the rehearsal begins.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from sagelight.forking import FORKING, get_ready

# The service gives a stopped container this long between SIGTERM and SIGKILL.
GRACE_SECONDS = 120


def load_programs() -> None:
    """Begin to load what every program needs; returns at once."""
    get_ready("torch", "boto3")


class TrainProgram:
    """One running `train`, the leader of a process group of its own.

    Attributes:
        output: what it and the processes below it print, as text.
    """

    def __init__(self, variables: Mapping[str, str], folder: Path) -> None:
        """Start it in `folder`, with exactly these environment variables."""
        reader, writer = FORKING.Pipe(duplex=False)
        self._process = FORKING.Process(target=_train, args=(writer, dict(variables), folder))
        self._process.start()
        writer.close()
        self.output = os.fdopen(os.dup(reader.fileno()), errors="replace")
        reader.close()

    @property
    def returncode(self) -> int | None:
        """The exit status; negative for a signal, None while it runs."""
        return self._process.exitcode

    def wait(self) -> None:
        """Return when it has ended."""
        self._process.join()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; nothing when it has ended already."""
        pid = self._process.pid
        assert pid is not None
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return


def end(programs: Sequence[TrainProgram], grace: float = GRACE_SECONDS) -> None:
    """Stop programs as the service does: SIGTERM, patience, SIGKILL."""
    for program in programs:
        program.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while any(p.returncode is None for p in programs) and time.monotonic() < deadline:
        time.sleep(0.1)
    for program in programs:
        program.signal(signal.SIGKILL)
        program.wait()


def _train(writer: Connection, variables: Mapping[str, str], folder: Path) -> None:
    os.setsid()
    for descriptor in (1, 2):
        os.dup2(writer.fileno(), descriptor)
    writer.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Its modules read the variables when they are imported.
    from sagemaker_training.cli.train import main

    main()

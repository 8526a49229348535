"""A training that hangs: said while it hangs, with where it does."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

# So often within the threshold it looks, so that a stall is said soon after it is one.
_LOOKS = 10
_SHOWN = 4


class StallWatch(Callback):
    """Says when no training or validation batch has ended for `threshold` seconds; with `stop`, interrupts the training
    as Ctrl-C would.
    """

    def __init__(self, threshold: float, stop: bool) -> None:
        self._threshold = threshold
        self._stop = stop
        self._progress = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._stop and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell starts programs in the background deaf to Ctrl-C, and this one must hear it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._meet()
        self._over.clear()
        self._thread = threading.Thread(target=self._watch, name="stall-watch", daemon=True)
        self._thread.start()

    def on_train_batch_end(self, *_: Any) -> None:
        self._meet()

    def on_validation_batch_end(self, *_: Any) -> None:
        self._meet()

    def on_validation_end(self, *_: Any) -> None:
        self._meet()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._end()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._end()

    def _meet(self) -> None:
        self._progress = time.monotonic()

    def _watch(self) -> None:
        said = 0.0
        while not self._over.wait(self._threshold / _LOOKS):
            still = time.monotonic() - self._progress
            if still > self._threshold and said != self._progress:
                said = self._progress
                print(
                    f"debugger: StalledTraining: no batch has ended for {still:.0f} s; the training is at "
                    f"{_where()}",
                    file=sys.stderr,
                    flush=True,
                )
                if self._stop:
                    # A signal also ends what the main thread waits for.
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        self._over.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()


def _where() -> str:
    """The innermost calls of the main thread, outermost first."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    calls = traceback.extract_stack(frame)[-_SHOWN:] if frame else []
    return " > ".join(f"{call.name} ({call.filename}:{call.lineno})" for call in calls)

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from debugging.trainings import around_step, train
from sagelight.debugging.stall import StallWatch

SHORT = "debugger.parameters.StalledTraining.threshold"


def hangs_once(seconds: float) -> Any:
    """The third training step takes so long."""

    def before(trainer: Any, model: Any, data: Any) -> None:
        around_step(model, lambda number, batch: time.sleep(seconds) if number == 2 else None)

    return before


def watching() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "stall-watch"]


def test_a_stall_is_said_while_it_lasts_with_where_it_is(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(photos, "run", f"{SHORT}=1.5", before=hangs_once(2.5))
    [said] = [line for line in capsys.readouterr().err.splitlines() if "no batch has ended" in line]
    assert re.match(
        r"debugger: StalledTraining: no batch has ended for \d s; the training is at ", said
    )
    # The innermost call is this file's, which sleeps.
    assert re.search(r"<lambda> \(.*test_stall\.py:\d+\)$", said)
    assert not watching()


def test_with_stop_a_stall_is_interrupted_as_ctrl_c_would(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    words = [f"{SHORT}=1.5", "debugger.actions.StalledTraining=stop"]
    with pytest.raises(KeyboardInterrupt):
        train(photos, "run", *words, before=hangs_once(120))
    # It does not wait until what hangs has ended.
    assert time.monotonic() - started < 60
    assert "no batch has ended for" in capsys.readouterr().err
    assert not watching()


def test_a_training_that_goes_on_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    watch: Any = StallWatch(0.5, stop=False)
    watch.on_train_start(None, None)
    for _ in range(20):
        time.sleep(0.05)
        watch.on_validation_batch_end()
    watch.on_train_end(None, None)
    assert capsys.readouterr().err == ""
    assert not watching()


def test_each_stall_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    watch: Any = StallWatch(0.1, stop=False)
    watch.on_train_start(None, None)
    time.sleep(0.4)
    watch.on_train_batch_end()
    time.sleep(0.4)
    watch.on_exception(None, None, ValueError())
    watch.teardown(None, None, "fit")
    assert capsys.readouterr().err.count("no batch has ended") == 2


def test_a_wait_that_python_cannot_see_into_is_interrupted() -> None:
    watch: Any = StallWatch(0.2, stop=True)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    watch.on_train_start(None, None)
    try:
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(60)
    finally:
        watch.on_train_end(None, None)
        signal.signal(signal.SIGINT, handler)

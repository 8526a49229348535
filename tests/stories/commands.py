"""Commands as a person types them."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exporting import traced_once
from sagelight.cli import main

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "launch" / "local.py"
# Seconds long on a tiny network, with the hardest settings for exact repetition.
TINY = [
    "experiment=squeezenet",
    "model.backbone=squeezenet1_1",
    "model.weights=none",
    "data.image_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.precision=32-true",
    "finetune.backbone_lr_scale=1",
    "optimizer.lr=0.003",
]


def run(*words: str) -> int:
    """Run a command in this process."""
    with traced_once():
        return main(list(words))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must be refused, and give its one message."""
    return refused_by(main, capsys, *words)


def refused_by(
    door: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    """As `refused`, at another door."""
    capsys.readouterr()
    assert door(list(words)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message.removeprefix("error: ").strip()


def hear_ctrl_c() -> None:
    """In a new process: take Ctrl-C as at a terminal, also where the tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*words: str, **options: object) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(LOCAL), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=hear_ctrl_c,
        **options,  # type: ignore[call-overload]
    )


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def losses(run_dir: Path) -> list[tuple[str, str, str]]:
    """Epoch, training loss to the last written digit, and validation loss to five.

    Training repeats bit for bit; the sixth digit of a validation loss may differ between processes.
    """
    rows = read_csv(run_dir / "metrics.csv")
    return [(row["epoch"], row["train/loss"], f"{float(row['val/loss']):.4f}") for row in rows]

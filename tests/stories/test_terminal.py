"""What a person at a terminal sees, where machines get the metric line."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from stories.commands import LOCAL, TINY


def test_a_terminal_gets_a_bar_and_a_readable_line_an_epoch(photos: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(LOCAL), *TINY, f"data.root={photos}", "trainer.max_epochs=2"],
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    assert process.wait(timeout=120) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"epoch 1/2 ━", text)
    assert re.search(r"epoch 2/2  train/loss \d\.\d{3}  val/loss .* best 0\.\d{3}  \d+ s", text)
    assert "sagelight-metrics" not in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        # Linux says so when the last program has left the terminal.
        return b""

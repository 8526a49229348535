from __future__ import annotations

import io
import sys

import pytest

from sagelight import progress as module
from sagelight.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter("abc"), 3, "Reading")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_long_work_writes_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(progress([7, 8], 2, "Reading")) == [7, 8]
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["Reading: 1 of 2", "Reading: 2 of 2"]
    assert captured.out == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress(range(5), 5, "Reading")) == [0, 1, 2, 3, 4]
    assert "Reading" in terminal.getvalue()
    assert "100%" in terminal.getvalue()

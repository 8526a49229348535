"""A disk that is full or may not be written ends a command with one message."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundles import make_bundle, make_photos
from sagelight.cli import guarded
from stories.commands import refused, run


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit on file sizes stands for the full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_predictions_on_a_full_disk_are_told_and_come_with_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(tmp_path / "bundle")
    make_photos(tmp_path / "photos", each=2)
    words = ["predict", "bundle=bundle", "input=photos", "output=labels.csv"]
    with files_of_at_most(100):
        message = refused(capsys, *words)
    assert "could not be read or written: File too large. Make room there" in message
    assert list(tmp_path.glob("*labels*")) == []
    assert run(*words) == 0
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 1 + 6


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Make room there, or type another folder, and repeat the same command."),
        (errno.EROFS, "Let it be written, or type another folder, and repeat the same command."),
    ],
)
def test_what_a_disk_refuses_is_one_message(
    number: int, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise OSError(number, os.strerror(number), "runs/x/metrics.csv")

    assert guarded(command) == 2
    said = (
        f"error: runs/x/metrics.csv could not be read or written: {os.strerror(number)}. {advice}\n"
    )
    assert capsys.readouterr().err == said


def test_other_errors_of_the_system_are_ours() -> None:
    def command() -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with pytest.raises(OSError, match="Invalid argument"):
        guarded(command)

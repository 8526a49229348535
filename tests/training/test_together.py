"""What processes started together measure and say, without a whole training around it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from images import make_folder
from sagelight.errors import RunError
from sagelight.training.together import MemberFault, together
from training.members import counted, ended, measured


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "batch", "strategy"),
    # Of a batch of 3, the fourth process never has a photo.
    [(2, 5, "ddp"), (3, 5, "ddp"), (4, 3, "ddp"), (3, 64, "ddp"), (3, 5, "fsdp")],
)
def test_every_validation_photo_counts_once_however_many_processes(
    tmp_path: Path, count: int, batch: int, strategy: str
) -> None:
    splits = {"train": {"a": 8, "b": 8}, "validation": {"a": 6, "b": 5}, "test": {"a": 1, "b": 1}}
    photos = str(make_folder(tmp_path / "photos", splits))
    alone = measured(photos, batch, "ddp")
    assert 0 < alone["val/accuracy"] < 1
    assert together(count, measured, photos, batch, strategy) == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("refusal", RunError, r"^this photo is broken\. Mend it\.$"),
        ("kill", RunError, r"^process 2 of 2 was ended by SIGKILL, and took the others with it"),
        pytest.param(
            "fault",
            MemberFault,
            r"(?s)^process 2 of 2:\nTraceback.*ZeroDivisionError: ours",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "exit",
            MemberFault,
            r"^process 2 of 2 ended with exit code 3 without a word",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_end_of_one_is_the_end_of_all_and_is_told_as_what_it_was(
    how: str, error: type[Exception], said: str
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(error, match=said):
        together(2, ended, how)
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_first_process_answers() -> None:
    assert together(3, counted, 10) == (13, 3)

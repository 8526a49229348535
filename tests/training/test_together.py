"""What processes started together measure and say, without a whole training around it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from images import make_folder
from sagelight.config.compose import compose
from sagelight.errors import DataError, RunError
from sagelight.processes import Processes
from sagelight.training.fit import _prepare, build, build_trainer
from sagelight.training.together import MemberFault, together

NAMES = ("val/loss", "val/accuracy", "val/top5_accuracy", "val/macro_f1")


def measured(photos: str, batch: int, strategy: str) -> dict[str, float]:
    """The figures of validation by an untrained network, of all processes together."""
    config = compose(
        [
            "experiment=smoke",
            "model=resnet18",
            "data=folder",
            f"data.root={photos}",
            "data.image_size=32",
            "data.batch_size=8",
            f"data.eval_batch_size={batch}",
            "data.num_workers=0",
            "trainer.precision=32-true",
            "trainer.limit_val_batches=null",
            f"trainer.strategy={strategy}",
            "debugger=off",
            "profiler=off",
            "run_dir=run",
        ]
    )
    processes = Processes.here()
    with processes.joined():
        prepared = _prepare(config, processes)
        model, data = build(config, prepared.index, processes)
        trainer = build_trainer(config, prepared.run, processes)
        trainer.callbacks = [c for c in trainer.callbacks if "Checkpoint" not in type(c).__name__]  # type: ignore[attr-defined]
        (found,) = trainer.validate(model, data, verbose=False)
    return {name: float(found[name]) for name in NAMES}


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "strategy"), [(5, "ddp"), (3, "ddp"), (64, "ddp"), (5, "fsdp")])
def test_every_validation_photo_counts_once_however_many_processes(
    tmp_path: Path, batch: int, strategy: str
) -> None:
    splits = {"train": {"a": 8, "b": 8}, "validation": {"a": 6, "b": 5}, "test": {"a": 1, "b": 1}}
    photos = str(make_folder(tmp_path / "photos", splits))
    alone = measured(photos, batch, "ddp")
    assert 0 < alone["val/accuracy"] < 1
    for count in (2, 3, 4):
        assert together(count, measured, photos, batch, strategy) == pytest.approx(alone, abs=1e-5)


def ended(how: str) -> int:
    """The last process ends as said; the first waits for it."""
    processes = Processes.here()
    with processes.joined():
        if processes.rank == processes.size - 1:
            if how == "refusal":
                raise DataError("this photo is broken. Mend it.")
            if how == "fault":
                raise ZeroDivisionError("ours")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "exit":
                sys.exit(3)
        processes.gather(1)
    return 7


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


def counted(base: int) -> tuple[int, int, int]:
    processes = Processes.here()
    with processes.joined():
        return base + sum(processes.gather(processes.rank)), processes.size, torch.get_num_threads()


def test_the_first_process_answers() -> None:
    assert together(3, counted, 10)[:2] == (13, 3)

"""Killed equals not killed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
import torch

from sagelight.training.checkpoints import read_checkpoint
from stories.commands import TINY, losses, read_csv, run, start


def words(photos: Path, *more: str) -> list[str]:
    return [
        "train",
        *TINY,
        f"data.root={photos}",
        "trainer.max_epochs=6",
        "model.dropout=0.2",
        *more,
    ]


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(*words(photos, f"run_dir={folder}")) == 0
    return folder


def stop_after_epoch(process: subprocess.Popen[str], epoch: int, how: signal.Signals) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"sagelight-metrics epoch={epoch} "):
            process.send_signal(how)
            break
    return process.communicate(timeout=120)[1]


def assert_same_end(folder: Path, other: Path) -> None:
    """Weights and optimizer state, bit for bit."""
    ours, theirs = (read_checkpoint(each / "checkpoints" / "last.ckpt") for each in (folder, other))
    assert ours["global_step"] == theirs["global_step"]
    assert _tensors(ours["state_dict"])
    for part in ("state_dict", "optimizer_states"):
        for one, another in zip(_tensors(ours[part]), _tensors(theirs[part]), strict=True):
            assert torch.equal(one, another)


def _tensors(content: object) -> list[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return [content]
    if isinstance(content, dict):
        content = list(content.values())
    return [t for each in content for t in _tensors(each)] if isinstance(content, list) else []


@pytest.mark.parametrize("epoch", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_run_continues_to_the_same_end(photos: Path, undisturbed: Path, epoch: int) -> None:
    process = start(*words(photos))
    stop_after_epoch(process, epoch, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    [folder] = Path("runs/squeezenet").iterdir()
    assert not (folder / "metrics.json").exists()
    assert run(*words(photos)) == 0
    assert [folder] == list(Path("runs/squeezenet").iterdir())
    assert losses(folder) == losses(undisturbed)
    assert_same_end(folder, undisturbed)
    assert labels(folder) == labels(undisturbed)


def labels(folder: Path) -> list[tuple[str, str]]:
    rows = read_csv(folder / "evaluation" / "test.csv")
    return [(row["file"], row["predicted"]) for row in rows]


def test_ctrl_c_leaves_a_run_that_the_same_command_continues(
    photos: Path, undisturbed: Path
) -> None:
    process = start(*words(photos))
    err = stop_after_epoch(process, 2, signal.SIGINT)
    assert process.returncode == 130
    assert "interrupted; the same command continues where it stopped" in err
    assert "Traceback" not in err
    assert run(*words(photos)) == 0
    [folder] = Path("runs/squeezenet").iterdir()
    assert losses(folder) == losses(undisturbed)


def test_kill_after_training_only_finishes(photos: Path, undisturbed: Path) -> None:
    """Between the last epoch and metrics.json: the bundle is made again, nothing is trained."""
    assert run(*words(photos, "run_dir=run")) == 0
    stamp = Path("run/checkpoints/best.ckpt").stat().st_mtime_ns
    Path("run/metrics.json").unlink()
    Path("run/report.html").unlink()
    assert run(*words(photos, "run_dir=run")) == 0
    assert Path("run/report.html").is_file()
    assert Path("run/checkpoints/best.ckpt").stat().st_mtime_ns == stamp
    assert losses(Path("run")) == losses(undisturbed)


def test_resume_from_a_path_goes_on_in_a_new_folder(photos: Path, undisturbed: Path) -> None:
    process = start(*words(photos, "run_dir=first"))
    stop_after_epoch(process, 3, signal.SIGKILL)
    assert run(*words(photos, "run_dir=second", "resume=first/checkpoints/last.ckpt")) == 0
    assert losses(Path("second")) == losses(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [["callbacks=ema"], ["callbacks=early_stopping"], ["finetune=gradual"]]
)
def test_other_parts_resume_as_exactly(photos: Path, more: list[str]) -> None:
    assert run(*words(photos, *more, "run_dir=whole")) == 0
    process = start(*words(photos, *more, "run_dir=broken"))
    stop_after_epoch(process, 2, signal.SIGKILL)
    assert run(*words(photos, *more, "run_dir=broken")) == 0
    assert losses(Path("broken")) == losses(Path("whole"))
    assert_same_end(Path("broken"), Path("whole"))

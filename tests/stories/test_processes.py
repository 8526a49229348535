"""Several processes train what one would: started as torchrun starts them, on this machine's cores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stories.commands import LOCAL, TINY, read_csv, run

# 24 photos in batches of 9: shares of 5 and 4, and a last batch of 6. The network has no BatchNorm and no dropout.
UNEVEN = [*TINY, "data.batch_size=9", "data.eval_batch_size=5", "augment=upright"]


def together(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    return subprocess.run(
        [*launcher, str(LOCAL), *words], capture_output=True, text=True, timeout=300
    )


def figures(folder: Path) -> list[float]:
    names = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/macro_f1")
    return [float(row[name]) for row in read_csv(folder / "metrics.csv") for name in names]


def test_two_processes_train_and_continue_what_one_does(photos: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    words = [*UNEVEN, f"data.root={photos}", "finetune=gradual"]
    assert run(*words, "trainer.max_epochs=2", f"run_dir={one}") == 0

    done = together(*words, "trainer.max_epochs=2", f"run_dir={two}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sagelight-metrics epoch=2") == 1
    assert "Warning" not in done.stderr
    assert "sync_dist" not in done.stderr
    assert figures(two) == pytest.approx(figures(one), abs=1e-4)
    weights, shared = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (one, two)
    )
    for name, tensor in weights.items():
        torch.testing.assert_close(shared[name], tensor, atol=1e-4, rtol=1e-3)

    longer = [*words, "trainer.max_epochs=3", f"resume={one}/checkpoints/last.ckpt"]
    assert run(*longer, f"run_dir={tmp_path / 'one-more'}") == 0
    done = together(*longer, f"run_dir={tmp_path / 'two-more'}")
    assert done.returncode == 0, done.stderr
    assert figures(tmp_path / "two-more") == pytest.approx(figures(tmp_path / "one-more"), abs=1e-4)


@pytest.mark.slow
def test_what_the_first_process_refuses_is_said_once(tmp_path: Path) -> None:
    done = together(*TINY, "data.root=nowhere", f"run_dir={tmp_path / 'run'}")

    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1
    assert "data.root" in done.stderr
    assert not (tmp_path / "run").exists()

"""Several processes train what one would, and end as one does; on this machine's cores, over gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from stories.commands import LOCAL, TINY, read_csv, refused, run, start

# 24 photos in batches of 9: shares of 5 and 4, and a last batch of 6. Validation has 6 in batches of 5: shares of 3 and
# 2, then one photo for the first process and none for the second. The network has no BatchNorm and no dropout.
UNEVEN = [*TINY, "data.batch_size=9", "data.eval_batch_size=5", "augment=upright"]
TWO = ["trainer=ddp", "trainer.devices=2"]
# What trainer=fsdp refuses, and this experiment has.
WHOLE = ["callbacks.ema_decay=0"]
SHARDED = ["trainer=fsdp", "trainer.devices=2", *WHOLE]


def figures(folder: Path) -> list[float]:
    names = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/macro_f1")
    return [float(row[name]) for row in read_csv(folder / "metrics.csv") for name in names]


def assert_same(folder: Path, other: Path) -> None:
    """Figures, weights and optimizer state, to 1e-4."""
    assert figures(folder) == pytest.approx(figures(other), abs=1e-4)
    ours, theirs = (
        torch.load(each / "checkpoints" / "last.ckpt", weights_only=True)
        for each in (folder, other)
    )
    assert_close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-3)
    assert_close(ours["state_dict"], theirs["state_dict"])
    assert_close(ours["optimizer_states"][0]["state"], theirs["optimizer_states"][0]["state"])


def test_two_processes_train_what_one_does(photos: Path) -> None:
    words = [*UNEVEN, f"data.root={photos}", "finetune=gradual", "trainer.max_epochs=2"]
    assert run(*words, "run_dir=one") == 0
    assert run(*words, *TWO, "run_dir=two") == 0
    assert_same(Path("two"), Path("one"))
    assert Path("two/bundle/model.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["finetune=gradual"], ["finetune=head", "augment=none"]])
def test_a_divided_network_trains_what_a_whole_one_does(photos: Path, more: list[str]) -> None:
    words = [*UNEVEN, f"data.root={photos}", "trainer.max_epochs=2", *WHOLE, *more]
    assert run(*words, "trainer.gradient_clip_val=1", "run_dir=one") == 0
    assert run(*words, "trainer.gradient_clip_val=1", *SHARDED, "run_dir=two") == 0
    assert_same(Path("two"), Path("one"))
    assert Path("two/bundle/model.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then", "optimizer"),
    [
        # Two epochs of AdamW in two processes round visibly: it divides by the root of a gradient's mean square.
        (TWO, [], "sgd"),
        (SHARDED, [], "sgd"),
        ([], TWO, "adamw"),
        ([], SHARDED, "adamw"),
        ([], SHARDED, "sgd"),
    ],
)
def test_either_continues_the_other(
    photos: Path, first: list[str], then: list[str], optimizer: str
) -> None:
    words = [*UNEVEN, f"data.root={photos}", *WHOLE, f"optimizer={optimizer}", "optimizer.lr=0.003"]
    assert run(*words, "trainer.max_epochs=3", "schedule=constant", "run_dir=whole") == 0
    short = [*words, "trainer.max_epochs=2", "schedule=constant", *first, "run_dir=short"]
    assert run(*short) == 0
    resumed = ["resume=short/checkpoints/last.ckpt", "run_dir=more", *then]
    assert run(*words, "trainer.max_epochs=3", "schedule=constant", *resumed) == 0
    assert_same(Path("more"), Path("whole"))


@pytest.mark.slow
def test_ctrl_c_ends_all_and_one_process_continues(photos: Path) -> None:
    words = [*UNEVEN, f"data.root={photos}", "trainer.max_epochs=12", "run_dir=run"]
    process = start(*words, *TWO)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("sagelight-metrics epoch=2 "):
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "interrupted; the same command continues where it stopped"
    assert said[0].endswith("finetune=full, 2 processes (ddp)\n")
    assert sum(line.startswith("sagelight-metrics epoch=1 ") for line in said) == 1
    assert _left_in(Path.cwd()) == []

    # The number of processes is no part of what a run is.
    stopped = len(read_csv(Path("run/metrics.csv")))
    assert stopped < 12
    assert run(*words) == 0
    rows = read_csv(Path("run/metrics.csv"))
    assert [row["epoch"] for row in rows] == [str(n) for n in range(1, 13)]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_others_end_with_the_one_that_started_them(photos: Path, how: signal.Signals) -> None:
    process = start(*UNEVEN, f"data.root={photos}", "trainer.max_epochs=99", "run_dir=run", *TWO)
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("sagelight-metrics epoch=1 "))
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGTERM else -signal.SIGKILL)
    assert "Traceback" not in err
    assert _left_in(Path.cwd()) == []


@pytest.mark.slow
def test_a_process_that_dies_is_named_and_takes_the_others_with_it(photos: Path) -> None:
    process = start(*UNEVEN, f"data.root={photos}", "trainer.max_epochs=99", "run_dir=run", *TWO)
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("sagelight-metrics epoch=1 "))
    members = [pid for pid in _left_in(Path.cwd()) if pid != process.pid]
    os.kill(max(members), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith("error: process ")
    assert " of 2 was ended by SIGKILL, and took the others with it" in err
    assert err.count("\n") == 1
    assert _left_in(Path.cwd()) == []


@pytest.mark.slow
def test_what_any_process_refuses_is_said_once(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*TINY, *TWO, "data.root=nowhere", "run_dir=run") == 2
    err = capfd.readouterr().err
    assert err.startswith("error: ")
    assert "data.root" in err
    assert err.count("\n") == 1
    assert not Path("run").exists()

    # All of them meet this one, at the same time.
    words = [*UNEVEN, f"data.root={photos}", "optimizer.lr=1e30", "optimizer=sgd", "debugger=off"]
    assert run(*words, *TWO, "run_dir=run") == 2
    err = capfd.readouterr().err
    assert "training diverged" in err
    assert err.count("error: ") == 1
    assert "Traceback" not in err


@pytest.mark.slow
def test_torchrun_itself_starts_them_too(photos: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", str(LOCAL)]
    words = [*UNEVEN, f"data.root={photos}", "trainer.max_epochs=1", "run_dir=run"]
    done = subprocess.run([*launcher, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "2 processes (ddp)" in done.stdout
    assert done.stdout.count("sagelight-metrics epoch=1") == 1
    assert "arning" not in done.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["trainer.devices=0"], "trainer.devices=0: must be at least 1"),
        (["trainer=fsdp", "callbacks=ema"], "callbacks.ema_decay averages whole weights"),
        (["trainer=fsdp", "debugger=smdebug"], "Type trainer=ddp, or debugger=default"),
        (["trainer=fsdp", "trainer.precision=16-mixed"], "trainer.precision=bf16-mixed"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    assert part in refused(capsys, "experiment=smoke", *words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it tells of a machine without GPUs")
def test_gpus_that_are_not_there_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiment=smoke", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cuda"]
    message = refused(capsys, *words)
    assert "trainer.devices=2: this machine has 0 GPUs, and each process needs one." in message


def _left_in(folder: Path) -> list[int]:
    """Processes that work in a folder, other than this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            here = (entry / "cwd").resolve() == folder.resolve()
            zombie = "\nState:\tZ" in (entry / "status").read_text()
        except OSError:
            continue
        if here and not zombie and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return sorted(found)

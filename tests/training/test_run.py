from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Collection
from pathlib import Path

import pytest
import torch

from holding import hold
from sagelight.config.compose import compose
from sagelight.config.resolve import Machine, resolve
from sagelight.config.save import save, saved_digest
from sagelight.config.schema import Config
from sagelight.errors import RunError
from sagelight.processes import Processes
from sagelight.training import run as run_module
from sagelight.training.checkpoints import read_checkpoint
from sagelight.training.prepare import Prepared, prepare, write_files
from sagelight.training.run import Run, choose_run, locked, point_latest

MACHINE = Machine(2, "cpu", False, "")


def resolved(*typed: str) -> Config:
    config = compose(typed)
    resolve(config, MACHINE, 1000)
    return config


def leave_run(folder: Path, config: Config, fingerprint: str = "f", finished: bool = False) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": {}, "global_step": 1}, folder / "checkpoints" / "last.ckpt")
    save(config, folder / "config.yaml")
    (folder / "check.json").write_text(json.dumps({"fingerprint": fingerprint}))
    if finished:
        (folder / "metrics.json").write_text("{}")


def test_unfinished_run_of_the_same_configuration_and_photos_is_continued() -> None:
    config = resolved()
    leave_run(Path("runs/digits/2026-01-01"), config)
    leave_run(Path("runs/digits/2026-01-02"), config, fingerprint="other photos")
    leave_run(Path("runs/digits/2026-01-03"), config, finished=True)
    leave_run(Path("runs/digits/2026-01-04"), resolved("seed=1"))
    run = choose_run(config, True, "f")
    assert run.folder == Path("runs/digits/2026-01-01")
    assert run.checkpoint == run.folder / "checkpoints" / "last.ckpt"


def test_what_a_machine_has_decided_for_a_run_is_not_decided_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "experiment=squeezenet",
        "model.weights=none",
        f"data.root={photos}",
        "data.batch_size=8",
    ]

    def prepared(fast_bf16: bool, *more: str) -> tuple[Config, Prepared]:
        machine = Machine(2, "cpu", fast_bf16, "measured")
        monkeypatch.setattr("sagelight.training.prepare.probe", lambda timed: machine)
        config = compose([*words, *more])
        return config, prepare(config, Processes())

    config, first = prepared(True)
    first.run.folder.mkdir(parents=True)
    write_files(config, first)
    again, second = prepared(False)
    assert second.run.folder == first.run.folder
    assert again.trainer.precision == config.trainer.precision == "bf16-mixed"
    told = {choice.name: (choice.value, choice.reason) for choice in second.choices}
    assert told["trainer.precision"] == ("bf16-mixed", "as when this run began")
    _, named = prepared(False, f"run_dir={first.run.folder}")
    assert named.run.folder == first.run.folder
    other, typed = prepared(False, "trainer.precision=32-true")
    assert typed.run.folder != first.run.folder
    assert other.trainer.precision == "32-true"


def test_of_many_runs_only_those_of_the_same_photos_that_are_unfinished_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, read = resolved(), []
    for number in range(5):
        leave_run(Path(f"runs/digits/finished-{number}"), config, finished=True)
        leave_run(Path(f"runs/digits/other-{number}"), config, fingerprint="other photos")
    leave_run(Path("runs/digits/2026-01-01"), config)

    def counted(folder: Path, but: Collection[str]) -> str | None:
        read.append(folder.name)
        return saved_digest(folder, but)

    monkeypatch.setattr(run_module, "saved_digest", counted)
    assert choose_run(config, True, "f").folder == Path("runs/digits/2026-01-01")
    assert read == ["2026-01-01"]


def test_run_without_a_checkpoint_yet_starts_again_in_its_own_folder() -> None:
    config = resolved()
    leave_run(Path("runs/digits/2026-01-01"), config)
    Path("runs/digits/2026-01-01/checkpoints/last.ckpt").unlink()
    assert choose_run(config, True, "f") == Run(Path("runs/digits/2026-01-01"))


def test_run_that_another_process_writes_is_left_alone() -> None:
    config = resolved()
    leave_run(Path("runs/digits/2026-01-01"), config)
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    holder = context.Process(target=hold, args=("runs/digits/2026-01-01", ready, leave))
    holder.start()
    try:
        assert ready.wait(60)
        assert choose_run(config, True, "f").checkpoint is None
        with (
            pytest.raises(RunError, match="another process is training there"),
            locked(Path("runs/digits/2026-01-01")),
        ):
            pass
    finally:
        leave.set()
        holder.join()


def test_resume_off_starts_anew() -> None:
    config = resolved("resume=off")
    leave_run(Path("runs/digits/2026-01-01"), config)
    assert choose_run(config, True, "f").checkpoint is None


def test_named_folder_is_continued_only_by_the_same_run() -> None:
    config = resolved("run_dir=here")
    leave_run(Path("here"), config)
    assert choose_run(config, False, "f").checkpoint == Path("here/checkpoints/last.ckpt")
    with pytest.raises(RunError, match=r"another configuration\. Type another run_dir"):
        choose_run(resolved("run_dir=here", "seed=1"), False, "f")
    with pytest.raises(RunError, match=r"other photos: data.root has changed"):
        choose_run(config, False, "g")
    with pytest.raises(RunError, match=r"is not empty.*or resume=auto to continue it"):
        choose_run(resolved("run_dir=here", "resume=off"), False, "f")


def test_folder_of_something_else_is_never_written() -> None:
    Path("home").mkdir()
    Path("home/letter.txt").touch()
    with pytest.raises(
        RunError, match=r"run_dir=home is not empty, and nothing in it is overwritten"
    ):
        choose_run(resolved("run_dir=home"), False, "f")


def test_resume_from_a_path() -> None:
    with pytest.raises(RunError, match=r"resume=no.ckpt: no such checkpoint"):
        choose_run(resolved("resume=no.ckpt"), True, "f")
    Path("some.ckpt").touch()
    assert choose_run(resolved("resume=some.ckpt"), True, "f").checkpoint == Path("some.ckpt")


@pytest.mark.parametrize("folder", ["file/run", "/proc/run"])
def test_folder_that_cannot_be_written(folder: str) -> None:
    Path("file").touch()
    with (
        pytest.raises(RunError, match=f"run_dir={folder} cannot be written: .*Type run_dir=DIR"),
        locked(Path(folder)),
    ):
        pass


def test_latest_points_at_the_newest() -> None:
    for name in ("a", "b"):
        Path("runs/x", name).mkdir(parents=True)
        point_latest(Path("runs/x", name))
    assert Path("runs/latest").resolve() == Path("runs/x/b").resolve()
    assert Path("runs/latest").readlink() == Path("x/b")
    point_latest(Path("elsewhere"))


def test_finished_is_told_by_whole_metrics() -> None:
    for name in ("a", "b", "c", "d"):
        leave_run(Path(name), resolved(), finished=name != "b")
    Path("c/metrics.json").write_text("")
    Path("d/metrics.json").write_bytes(bytes(2))
    assert [Run(Path(name)).finished for name in "abcd"] == [True, False, False, False]


def test_what_a_kill_has_left_half_written_goes_when_the_run_goes_on() -> None:
    config = resolved("run_dir=here")
    leave_run(Path("here"), config)
    for name in ("here/.bundle.12.tmp", "here/.bundle.12.old"):
        Path(name).mkdir()
        Path(name, "model.onnx").touch()
    Path("here/debugger/trial/index/000000000").mkdir(parents=True)
    for name in (
        "checkpoints/.last.ckpt.12.tmp",
        "debugger/.findings.json.12.tmp",
        "debugger/trial/index/000000000/000000000001_worker_0.json.tmp",
    ):
        Path("here", name).touch()
    with locked(Path("here")):
        pass
    left = [path.as_posix() for path in Path("here").rglob("*") if path.name.startswith(".")]
    assert left == ["here/.lock"]
    assert list(Path("here").rglob("*.tmp")) == []


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 half a file"])
def test_damaged_checkpoint_is_refused(content: bytes) -> None:
    Path("x.ckpt").write_bytes(content)
    with pytest.raises(RunError, match=r"x.ckpt is no checkpoint that can be read .*resume=off"):
        read_checkpoint(Path("x.ckpt"))


def test_file_of_another_kind_is_no_checkpoint() -> None:
    torch.save({"weights": 1}, "x.ckpt")
    with pytest.raises(RunError, match="it holds no state_dict"):
        read_checkpoint(Path("x.ckpt"))


def test_a_process_that_outlives_a_killed_training_does_not_hold_its_folder() -> None:
    context = multiprocessing.get_context("fork")
    running = context.Event()

    def load() -> None:
        running.set()
        time.sleep(60)

    with locked(Path("run")):
        loader = context.Process(target=load)
        loader.start()
        assert running.wait(30)
    try:
        with locked(Path("run")):
            assert loader.is_alive()
    finally:
        loader.kill()
        loader.join()

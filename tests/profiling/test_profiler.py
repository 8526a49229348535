from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from sagelight.config.compose import compose
from sagelight.data.dataset import PhotoDataset
from sagelight.models.classifier import Classifier
from sagelight.profiling import profiler
from sagelight.profiling.profile import Profile, Worker
from sagelight.training import fit as fitting
from sagelight.training.callbacks import Watch
from sagelight.training.fit import fit

RUN = Path("run")
# 24 training photos, 3 steps an epoch.
WORDS = [
    "experiment=squeezenet",
    "model.backbone=squeezenet1_1",
    "model.weights=none",
    "data.image_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
    "check=off",
    "debugger=off",
    "optimizer.lr=0.003",
]


def train(photos: Path, *words: str, watch: Callable[[Any], bool] = lambda row: False) -> Path:
    """Train without the final measuring; gives the profiler's folder."""
    config = compose([*WORDS, f"data.root={photos}", f"run_dir={RUN}", *words])
    build = fitting.build_trainer

    def watched(*given: Any) -> Any:
        trainer = build(*given)
        trainer.callbacks.append(Watch(watch))
        return trainer

    with (
        mock.patch.object(fitting, "build_trainer", watched),
        mock.patch.object(fitting, "finish", return_value={}),
    ):
        fit(config)
    return Path(config.run_dir) / "profiler"


def findings(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "findings.json").read_text())
    return {**content, "by_name": {verdict["name"]: verdict for verdict in content["verdicts"]}}


def steps(folder: Path) -> Worker:
    [worker] = Profile.read(folder).workers.values()
    return worker


def profiling_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "profiler"]


def test_a_training_leaves_samples_steps_and_verdicts(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(photos, "trainer.max_epochs=4", "profiler.interval_ms=100")
    found, worker = findings(folder), steps(folder)
    assert capsys.readouterr().err == ""
    assert [(step.epoch, step.batch) for step in worker.steps] == [
        (epoch, batch) for epoch in range(4) for batch in range(3)
    ]
    for before, after in zip(worker.steps, worker.steps[1:], strict=False):
        assert min(before.times.forward, before.times.backward, before.times.optimizer) > 0
        if before.epoch == after.epoch:
            assert after.t - before.t == pytest.approx(before.times.total, abs=0.01)
    assert len(worker.between["validation"]) == len(worker.between["checkpoint"]) == 4
    [start] = worker.starts
    assert (start.workers, start.device, start.batch_size) == (0, "cpu", 8)
    assert found["steps"] == 12
    assert found["stopped"] == ""
    assert found["by_name"]["BatchSize"]["reason"] == "this training uses no NVIDIA GPU"
    assert found["by_name"]["MaxInitializationTime"]["points"] == 1
    assert found["by_name"]["OverallSystemUsage"]["points"] > 0
    assert not profiling_threads()


def test_off_leaves_nothing(photos: Path) -> None:
    assert not train(photos, "trainer.max_epochs=1", "profiler=off").exists()


def test_the_weights_are_those_of_a_training_without_it(photos: Path) -> None:
    common = ["trainer.max_epochs=2", "augment=mixup_cutmix", "trainer.accumulate_grad_batches=2"]
    train(photos, *common, "profiler=off", "run_dir=off")
    train(photos, *common, "profiler=trace", "profiler.interval_ms=100", "run_dir=on")
    off, on = (
        torch.load(f"{folder}/checkpoints/last.ckpt", weights_only=True) for folder in ("off", "on")
    )
    assert off.keys() == on.keys()
    for name, tensor in off["state_dict"].items():
        assert tensor.numpy().tobytes() == on["state_dict"][name].numpy().tobytes(), name
    assert str(off["optimizer_states"]) == str(on["optimizer_states"])
    assert off["callbacks"].keys() == on["callbacks"].keys()
    # Of the two batches and one of an epoch, the second and the last end in a step.
    assert [step.times.optimizer > 0 for step in steps(Path("on/profiler")).steps[:3]] == [
        False,
        True,
        True,
    ]


def test_a_continued_run_goes_on(photos: Path) -> None:
    def stop(row: dict[str, float]) -> bool:
        # Before the checkpoint of that epoch, which is then trained again.
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        train(photos, "trainer.max_epochs=2", watch=stop)
    assert findings(RUN / "profiler")["steps"] == 6
    assert not profiling_threads()
    folder = train(photos, "trainer.max_epochs=2")
    worker = steps(folder)
    assert [(step.start, step.epoch) for step in worker.steps] == [
        (start, epoch) for start, epoch in ((0, 0), (0, 1), (1, 1)) for _ in range(3)
    ]
    assert findings(folder)["by_name"]["MaxInitializationTime"]["points"] == 2


def test_an_error_in_training_leaves_what_was_measured(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Classifier, batch: Any, batch_idx: int) -> None:
        if self.global_step == 4:
            raise ValueError("broken")
        return plain(self, batch, batch_idx)

    plain = Classifier.training_step
    monkeypatch.setattr(Classifier, "training_step", breaks)
    with pytest.raises(ValueError, match="broken"):
        train(photos, "trainer.max_epochs=3")
    assert findings(RUN / "profiler")["steps"] == 4
    assert not profiling_threads()


def test_a_full_disk_stops_no_training(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, _: object) -> None:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)

    written: list[Path] = []
    monkeypatch.setattr("sagelight.profiling.phases.append", full)
    monkeypatch.setattr("sagelight.profiling.sampler.append", full)
    folder = train(photos, "trainer.max_epochs=2")
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith(
        "profiler: run/profiler/steps.algo-1.0.jsonl could not be written: No sp"
    )
    assert told.endswith("nothing is measured any more, training goes on\n")
    assert findings(folder)["stopped"] in told
    assert (RUN / "checkpoints/last.ckpt").is_file()


def test_findings_that_cannot_be_written_stop_nothing(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(profiler, "write_findings", full)
    train(photos, "trainer.max_epochs=1")
    assert "profiler: findings.json could not be written" in capsys.readouterr().err


def test_a_trace_of_the_steps_after_ten_others(photos: Path) -> None:
    words = ["trainer.max_epochs=5", "profiler=trace", "profiler.trace_steps=2"]
    folder = train(photos, *words)
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    named = {event.get("name", "") for event in events}
    assert {name for name in named if name.startswith("ProfilerStep")} == {
        "ProfilerStep#10",
        "ProfilerStep#11",
    }
    assert "aten::convolution" in named


def test_too_few_steps_leave_no_trace(photos: Path) -> None:
    assert not (train(photos, "trainer.max_epochs=1", "profiler=trace") / "trace.json").exists()


def test_slow_photos_are_found(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(self: PhotoDataset, place: Any) -> Any:
        time.sleep(0.02)
        return plain(self, place)

    plain = PhotoDataset.__getitem__
    monkeypatch.setattr(PhotoDataset, "__getitem__", slow)
    monkeypatch.setattr("sagelight.profiling.profiler.usable_cores", lambda: 2)
    folder = train(photos, "trainer.max_epochs=7", "trainer.limit_val_batches=1")
    found = findings(folder)["by_name"]
    assert found["Dataloader"]["status"] == "IssuesFound"
    told = capsys.readouterr().err
    assert told.startswith("profiler: Dataloader: algo-1: ")
    assert "Type data.num_workers=2 (now 0). Gain: up to " in told
    assert told.count("\n") == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 16")
def test_too_many_loader_processes_are_found(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sagelight.profiling.profiler.usable_cores", lambda: 2)
    train(photos, "trainer.max_epochs=1", "data.num_workers=16", "trainer.limit_val_batches=1")
    told = capsys.readouterr().err
    assert "Dataloader: algo-1: 16 loader processes on 2 cores: Type data.num_workers=2" in told


def test_a_whole_run_of_the_digits_with_nothing_to_find(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = fit(compose(["experiment=smoke", "trainer.limit_train_batches=14", "run_dir=run"]))
    assert outcome is not None
    assert "profiler:" not in capsys.readouterr().err
    found = findings(RUN / "profiler")["by_name"]
    assert found["Dataloader"]["status"] == "NoIssuesFound"
    assert not any(verdict["found"] for verdict in found.values())


HEALTHY = [
    (seed, backbone, data)
    for seed in range(2)
    for backbone in ("squeezenet1_1", "resnet18", "mobilenet_v3_small")
    for data in ("photos", "digits", "workers")
] + [(2, "resnet18", "large"), (3, "squeezenet1_1", "large")]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "backbone", "data"), HEALTHY)
def test_healthy_trainings_have_no_finding(
    photos: Path, seed: int, backbone: str, data: str
) -> None:
    words = {
        "photos": [],
        "digits": ["data=digits", "data.root=digits", "data.image_size=32", "augment=upright"],
        "workers": ["data.num_workers=2"],
        "large": ["data.image_size=96", "augment=strong"],
    }[data]
    words += [f"seed={seed}", f"model.backbone={backbone}", "trainer.limit_train_batches=20"]
    folder = train(photos, *words, "trainer.max_epochs=5", "trainer.limit_val_batches=2")
    verdicts = findings(folder)["verdicts"]
    assert [verdict for verdict in verdicts if verdict["found"]] == []

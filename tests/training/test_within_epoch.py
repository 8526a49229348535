"""Killed within an epoch equals not killed: weights, optimizer, table, and the figures of the broken epoch."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagelight.data.continuing import EpochBatches, WholeBatches
from sagelight.data.dataset import EpochSampler
from sagelight.errors import RunError
from sagelight.models.classifier import Classifier
from sagelight.training.checkpoints import read_checkpoint
from sagelight.training.within_epoch import FIGURES, Due
from stories.commands import TINY, losses, read_csv, run, start
from stories.test_interruption import assert_same_end

# 24 photos: 6 batches an epoch.
WORDS = [
    "train",
    *TINY,
    "data.batch_size=4",
    "trainer.max_epochs=3",
    "model.dropout=0.2",
    "trainer.checkpoint_steps=2",
    "explain=false",
]


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(*WORDS, f"data.root={photos}", f"run_dir={folder}") == 0
    return folder


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Call with an epoch and a batch, from 0, to have Ctrl-C pressed in that step, once."""
    step = Classifier.training_step
    places: list[tuple[int, int]] = []

    def training_step(self: Classifier, batch: Any, batch_idx: int) -> Any:
        if (self.current_epoch, batch_idx) in places:
            places.clear()
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", training_step)
    yield lambda *place: places.append(place)
    assert not places


def figures(folder: Path) -> list[tuple[str, ...]]:
    names = ("epoch", "lr", "train/loss", "train/accuracy")
    return [tuple(row[name] for name in names) for row in read_csv(folder / "metrics.csv")]


@pytest.mark.parametrize(
    "place", [(1, 3), pytest.param((0, 2), marks=pytest.mark.slow)], ids=["second", "first epoch"]
)
def test_a_run_continues_within_an_epoch(
    photos: Path, undisturbed: Path, stops: Any, place: tuple[int, int]
) -> None:
    words = [*WORDS, f"data.root={photos}", "run_dir=broken", "data.num_workers=0"]
    stops(*place)
    assert run(*words) == 130
    left = read_checkpoint(Path("broken/checkpoints/last.ckpt"))
    assert left["global_step"] == place[0] * 6 + 2
    assert FIGURES in left
    assert run(*words) == 0
    assert figures(Path("broken")) == figures(undisturbed)
    assert losses(Path("broken")) == losses(undisturbed)
    assert_same_end(Path("broken"), undisturbed)


def test_loader_processes_draw_the_epoch_that_a_run_continues_with(
    photos: Path, undisturbed: Path, stops: Any
) -> None:
    words = [*WORDS, f"data.root={photos}", "run_dir=broken", "data.num_workers=2"]
    stops(1, 1)
    assert run(*words) == 130
    assert FIGURES not in read_checkpoint(Path("broken/checkpoints/last.ckpt"))
    assert run(*words) == 0
    assert figures(Path("broken")) == figures(undisturbed)
    assert_same_end(Path("broken"), undisturbed)


def test_what_watches_counts_every_step_once(photos: Path, stops: Any) -> None:
    words = [*WORDS, f"data.root={photos}", "run_dir=broken", "trainer.max_epochs=2"]
    stops(1, 3)
    assert run(*words) == 130
    assert run(*words) == 0
    [steps] = Path("broken/profiler").glob("steps.*.jsonl")
    lines = [json.loads(line) for line in steps.read_text().splitlines()]
    seen = [(line["epoch"], line["batch"]) for line in lines if line["kind"] == "step"]
    whole = [(0, batch) for batch in range(6)]
    # The third batch of the second epoch was lost with the checkpoint before it, and is trained again.
    assert seen == [*whole, (1, 0), (1, 1), (1, 2), (1, 2), (1, 3), (1, 4), (1, 5)]
    within = [line["epoch"] for line in lines if line["kind"] == "checkpoint"]
    assert within.count(0) == 3
    bridge = read_checkpoint(Path("broken/checkpoints/last.ckpt"))["callbacks"]["Bridge"]
    assert bridge["steps"] == {"TRAIN": 12, "EVAL": 2}
    rows = read_csv(Path("broken/metrics.csv"))
    assert [row["epoch"] for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    "more",
    [
        ["callbacks=ema"],
        ["finetune=gradual"],
        ["trainer.accumulate_grad_batches=4", "trainer.checkpoint_steps=3"],
        ["finetune=head", "augment=none"],
        ["data.num_workers=2"],
    ],
    ids=lambda more: more[0],
)
@pytest.mark.slow
def test_other_parts_continue_within_an_epoch_as_exactly(
    photos: Path, stops: Any, more: list[str]
) -> None:
    words = [*WORDS, f"data.root={photos}", *more]
    assert run(*words, "run_dir=whole") == 0
    stops(1, 5)
    assert run(*words, "run_dir=broken") == 130
    assert FIGURES in read_checkpoint(Path("broken/checkpoints/last.ckpt"))
    assert run(*words, "run_dir=broken") == 0
    assert figures(Path("broken")) == figures(Path("whole"))
    assert_same_end(Path("broken"), Path("whole"))


def batches_of(size: int) -> EpochBatches:
    epochs = EpochSampler(24, seed=0)
    return EpochBatches(epochs, WholeBatches(epochs, size, least=2), rank=0, size=1)


def test_an_epoch_goes_on_after_its_batches_and_in_no_other_order() -> None:
    whole, rest, other = batches_of(4), batches_of(4), batches_of(6)
    for each in (whole, rest, other):
        each.sampler.set_epoch(1)
    rest.resume(whole.place(2))
    assert list(rest) == list(whole)[2:]
    rest.sampler.set_epoch(2)
    assert len(list(rest)) == 6
    other.resume(whole.place(2))
    with pytest.raises(
        RunError, match=r"written within epoch 2, after 2 batches of .* of 4; now .* of 6"
    ):
        list(other)


@pytest.mark.slow
def test_a_process_killed_within_an_epoch_ends_the_same(photos: Path, undisturbed: Path) -> None:
    words = [*WORDS, f"data.root={photos}", "run_dir=killed"]
    process = start(*words)
    last = Path("killed/checkpoints/last.ckpt")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if last.is_file() and FIGURES in read_checkpoint(last):
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert run(*words) == 0
    assert figures(Path("killed")) == figures(undisturbed)
    assert_same_end(Path("killed"), undisturbed)


class Together:
    """A strategy of one process."""

    def __init__(self) -> None:
        self.strategy = self
        self.asked = 0

    def broadcast(self, answer: Any) -> Any:
        self.asked += 1
        return answer


def test_processes_seldom_ask_each_other_for_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("sagelight.training.within_epoch.time.monotonic", lambda: now)
    due, trainer = Due(600), Together()
    batches = 0
    over = False
    while not over:
        now, batches = now + 0.1, batches + 1
        over = due.now(trainer)  # type: ignore[arg-type]
    assert batches == 6000
    assert trainer.asked < 20

"""How long loading takes is measured, and changes nothing but the number of loader processes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import torch

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.data import loading
from sagelight.data.augment import training_transform
from sagelight.data.dataset import PhotoDataset
from sagelight.data.index import Sample, index_images
from sagelight.data.loading import MOST_SECONDS, TIMED, time_loading
from sagelight.data.settings import AugmentSettings
from sagelight.data.sources import PhotoFiles
from stories.commands import TINY, run

SPEC = Preprocessing(24, 20, (0.5,) * 3, (0.25,) * 3)


class Slow:
    """A source whose photos take as long as it is told."""

    def __init__(self, count: int, seconds: float) -> None:
        self.samples = [Sample(f"{number}.jpg", 0) for number in range(count)]
        self.seconds = seconds
        self.read: list[int] = []

    def photo(self, position: int) -> torch.Tensor:
        self.read.append(position)
        time.sleep(self.seconds)
        return torch.zeros(3, 30, 30, dtype=torch.uint8)

    served = photo


def dataset(source: object) -> PhotoDataset:
    return PhotoDataset(source, training_transform(AugmentSettings(), 20))  # type: ignore[arg-type]


def test_photos_are_timed_evenly_spread() -> None:
    source = Slow(1200, 0.004)
    found = time_loading(dataset(source), seed=0)
    assert sorted(source.read[1:]) == [100 * number for number in range(TIMED)]
    assert 4 <= found.usual_ms <= found.longest_ms


def test_slow_photos_are_given_up_on_but_those_timed_are_spread() -> None:
    source = Slow(1200, MOST_SECONDS / 5)
    time_loading(dataset(source), seed=0)
    assert source.read[1:] in ([0, 200, 400, 600, 800], [0, 200, 400, 600, 800, 1000])


def test_few_photos_and_unreadable_ones_can_be_timed(photos: Path) -> None:
    samples = [*index_images(photos).splits["train"][:2], Sample("gone.jpg", 0)]
    state = torch.get_rng_state()
    found = time_loading(dataset(PhotoFiles(photos, samples, SPEC)), seed=0)
    assert 0 < found.usual_ms < 1000
    assert torch.equal(state, torch.get_rng_state())


def test_training_says_what_it_measured(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagelight.training.machine.usable_cores", lambda: 2)
    monkeypatch.setattr(loading, "start_seconds", lambda: 1e6)
    words = [word for word in TINY if not word.startswith("data.num_workers")]
    assert run("train", *words, f"data.root={photos}", "trainer.max_epochs=1", "run_dir=run") == 0
    told = capsys.readouterr().out
    assert re.search(
        r"auto: data.num_workers=0 \([\d.e+]+ ms a photo: an epoch's are loaded in", told
    )
    assert "auto: data.prefetch=" in told
    assert "auto: data.pin_memory=off (no GPU copies from it)" in told

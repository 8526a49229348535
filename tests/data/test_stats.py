from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from images import make_folder
from sagelight.bundle.preprocessing import Preprocessing
from sagelight.data.index import SPLITS, ImageIndex, index_images
from sagelight.data.settings import DataSettings
from sagelight.data.stats import StatsSettings, channel_stats, run_stats
from sagelight.errors import DataError

PREPROCESSING = Preprocessing(20, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
COUNTS = {split: {"cat": 20, "dog": 21} for split in SPLITS}


@pytest.fixture
def index(tmp_path: Path) -> ImageIndex:
    return index_images(make_folder(tmp_path, COUNTS))


def test_all_pixels_of_all_training_photos(index: ImageIndex) -> None:
    pixels = np.stack([PREPROCESSING(index.root / s.path) for s in index.splits["train"]]) / 255
    mean, std = channel_stats(index, PREPROCESSING)
    assert mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-12)
    assert std == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=1e-9)
    assert len(set(mean)) == 3


def test_unreadable_photos_are_left_out_and_counted(
    index: ImageIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = index.splits["train"][3]
    kept = [s for s in index.splits["train"] if s != broken]
    expected = channel_stats(
        ImageIndex(index.root, index.labels, {**index.splits, "train": kept}), PREPROCESSING
    )
    (index.root / broken.path).write_bytes(b"no image")
    assert channel_stats(index, PREPROCESSING) == expected
    assert capsys.readouterr().err == (
        "Left out of mean and std as unreadable: 1 training photos\n"
    )


def test_no_photo_can_be_read(index: ImageIndex) -> None:
    for sample in index.splits["train"]:
        (index.root / sample.path).write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        channel_stats(index, PREPROCESSING)
    assert str(caught.value) == (
        f"data.root={index.root}: none of the 41 training photos can be read. "
        f"Type `python launch/local.py check data.root={index.root}` to see why."
    )


def test_plain_photos_can_be_divided_by(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for number in range(3):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("RGB", (20, 20), (255, 0, 51)).save(tmp_path / label / f"{number}.png")
    mean, std = channel_stats(index_images(tmp_path), PREPROCESSING)
    assert mean == pytest.approx((1.0, 0.0, 0.2))
    assert std == pytest.approx((1 / 255,) * 3)


def test_the_verb_prints_one_line(index: ImageIndex, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = DataSettings(root=str(index.root), image_size=16, resize_size=20)
    run_stats(StatsSettings(chosen))
    mean, std = channel_stats(index, PREPROCESSING)
    spoken = [", ".join(f"{value:.4f}" for value in values) for values in (mean, std)]
    assert capsys.readouterr().out == (
        f"{index.root}: mean {spoken[0]}, std {spoken[1]} of 41 training photos at 16 pixels. "
        "data.normalize=dataset uses them.\n"
    )

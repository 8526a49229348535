from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from sagelight.config.compose import compose
from sagelight.data.dataset import Draw, Photo
from sagelight.data.index import index_images
from sagelight.features import table
from sagelight.models.network import Network
from sagelight.training.trials import prepare_frozen
from stories.commands import TINY, read_csv, refused, run

PHOTOS = 36
TRAINING, REST = 24, 12
FIGURES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/macro_f1")


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photos went through the backbone to be cached, batch by batch."""
    counts: list[int] = []
    forward = table._forward

    def counting(
        network: Network, images: Tensor, device: torch.device, precision: str
    ) -> NDArray[np.float32]:
        counts.append(len(images))
        return forward(network, images, device, precision)

    monkeypatch.setattr(table, "_forward", counting)
    return counts


def words(root: Path, *more: str) -> list[str]:
    return [
        *TINY,
        f"data.root={root}",
        "finetune=head",
        "augment=none",
        "callbacks.ema_decay=0",
        "trainer.max_epochs=3",
        *more,
    ]


def trained(folder: str, root: Path, *more: str) -> tuple[list[list[float]], dict[str, float]]:
    """Train by the command line: the figures of every epoch, and those of metrics.json."""
    assert run("train", *words(root, *more), f"run_dir={folder}") == 0
    rows = [
        [float(row[name] or "nan") for name in FIGURES]
        for row in read_csv(Path(folder, "metrics.csv"))
    ]
    metrics: dict[str, float] = json.loads(Path(folder, "metrics.json").read_text())
    quick = ("train_seconds", "images_per_second")
    return rows, {name: value for name, value in metrics.items() if name not in quick}


def assert_close(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-5, nan_ok=True)


def test_cached_and_uncached_training_agree(
    photos: Path, passed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["model.dropout=0.3", "data.sampler=balanced", "callbacks.ema_decay=0.9"]
    rows, metrics = trained("off", photos, *more, "features.cache=off")
    assert passed == []
    cached_rows, cached_metrics = trained("on", photos, *more, "features.cache=on")
    assert sum(passed) == PHOTOS
    assert len(rows) == 3
    assert_close(cached_rows, rows)
    assert cached_metrics["test/accuracy"] == metrics["test/accuracy"]
    assert cached_metrics["val/accuracy"] == metrics["val/accuracy"]
    assert cached_metrics == pytest.approx(metrics, abs=1e-5)

    capsys.readouterr()
    again_rows, again_metrics = trained("again", photos, *more)
    assert sum(passed) == PHOTOS
    assert (again_rows, again_metrics) == (cached_rows, cached_metrics)
    said = capsys.readouterr().out
    assert "auto: features.cache=on (the backbone is frozen: it runs once)" in said


def test_views_are_computed_once_each_and_drawn_from(photos: Path, passed: list[int]) -> None:
    more = ["augment=light", "features.views=2"]
    first, second = trained("first", photos, *more), trained("second", photos, *more)
    assert sum(passed) == 2 * TRAINING + REST
    assert first == second

    served = prepare_frozen(compose(words(photos, *more))).served
    views = served["train"].tensor()
    assert len(views) == 2
    assert not torch.allclose(views[0], views[1])
    assert len(served["validation"].tensor()) == len(served["test"].tensor()) == 1
    drawn = {seed: served["train"][Draw(0, seed)] for seed in (6, 7)}
    assert all(isinstance(photo, Photo) for photo in drawn.values())
    assert torch.equal(drawn[6].pixels, views[0, 0])  # type: ignore[union-attr]
    assert torch.equal(drawn[7].pixels, views[1, 0])  # type: ignore[union-attr]


@pytest.mark.slow
def test_rounded_features_train_and_the_final_figures_come_from_the_photos(photos: Path) -> None:
    half = "features.dtype=float16"
    exact = prepare_frozen(compose(words(photos))).served["train"].tensor()
    rounded = prepare_frozen(compose(words(photos, half))).served["train"].tensor()
    assert torch.equal(rounded, exact.half().float())
    assert not torch.equal(rounded, exact)

    trained("run", photos, half)
    assert run("evaluate", "bundle=run/bundle", f"data.root={photos}", "output=found.json") == 0
    served = {row["file"]: row for row in read_csv(Path("found.predictions.csv"))}
    for row in read_csv(Path("run/evaluation/test.csv")):
        confidence = float(served[row["file"]]["confidence"])
        assert float(row["confidence"]) == pytest.approx(confidence, abs=3e-6)


def weights(path: str) -> str:
    save_file(torchvision.models.squeezenet1_1().state_dict(), path)
    return f"model.weights={path}"


def touch(root: Path) -> None:
    photo = next(root.rglob("*.jpg"))
    os.utime(photo, ns=(0, photo.stat().st_mtime_ns + 1))


def rewrite(root: Path) -> None:
    """Another photo of the same class in place of one, with its time of change."""
    one, other, *_ = sorted(root.rglob("red/*.jpg"))
    stamp = one.stat().st_mtime_ns
    shutil.copy(other, one)
    os.utime(one, ns=(0, stamp))


def computed(root: Path, *more: str) -> int:
    return prepare_frozen(compose(words(root, *more))).computed


@pytest.mark.parametrize(
    ("more", "photos_computed"),
    [
        (["optimizer.lr=0.1", "optimizer=sgd", "schedule=linear"], 0),
        (["data.batch_size=6", "data.sampler=balanced", "trainer.max_epochs=9"], 0),
        (["model.dropout=0.5", "loss=balanced", "model.head_norm=none", "callbacks=ema"], 0),
        (["data.image_size=64"], PHOTOS),
        (["data.resize_size=34"], REST),
        (["data.normalize=dataset"], PHOTOS),
        (["trainer.precision=bf16-mixed"], PHOTOS),
        (["features.dtype=float16"], PHOTOS),
        (["model.backbone=squeezenet1_0"], PHOTOS),
        # Random weights are drawn from the seed.
        (["seed=1"], PHOTOS),
        (["augment=light", "features.views=2"], 2 * TRAINING),
        (["data.split_seed=1"], PHOTOS),
        (["features.folder=elsewhere"], PHOTOS),
    ],
)
def test_only_what_changes_the_features_computes_them_again(
    photos: Path, more: list[str], photos_computed: int
) -> None:
    assert computed(photos) == PHOTOS
    assert computed(photos, *more) == photos_computed
    assert computed(photos, *more) == 0
    assert computed(photos) == 0


def test_other_weights_make_other_features(photos: Path) -> None:
    first, second = weights("first.safetensors"), weights("second.safetensors")
    assert computed(photos, first) == PHOTOS
    assert computed(photos, first, "seed=1") == 0
    assert computed(photos, second) == PHOTOS
    shutil.copy("first.safetensors", "copy.safetensors")
    assert computed(photos, "model.weights=copy.safetensors") == 0


@pytest.mark.parametrize("change", [touch, rewrite])
def test_a_changed_photo_is_computed_again(photos: Path, change: object) -> None:
    shutil.copytree(photos, "some")
    root = Path("some")
    assert computed(root) == PHOTOS
    assert callable(change)
    change(root)
    # The splits that the photo does not belong to may stay.
    assert 0 < computed(root) <= PHOTOS
    assert computed(root) == 0


def test_another_folder_of_the_same_photos_is_another_key_only_by_its_photos(photos: Path) -> None:
    shutil.copytree(photos, "copy")
    assert computed(photos) == PHOTOS
    assert computed(Path("copy")) == 0


def damage(root: Path, split: str) -> str:
    """Break a photo of a split so that only decoding it tells; gives its name."""
    paths = [sample.path for sample in index_images(root).splits[split]]
    name = next(path for path in paths if path.endswith(".png"))
    content = bytearray((root / name).read_bytes())
    pixels = content.index(b"IDAT") + 4
    content[pixels + 10 : pixels + 60] = bytes(50)
    (root / name).write_bytes(content)
    return name


def test_a_photo_that_cannot_be_read_is_left_out_and_named_as_without_a_cache(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path("damaged")
    shutil.copytree(photos, root)
    names = [damage(root, split) for split in ("train", "validation", "test")]
    capsys.readouterr()

    def said(folder: str, *more: str) -> tuple[list[str], list[list[float]], dict[str, float]]:
        rows, metrics = trained(folder, root, "check=off", *more)
        lines = capsys.readouterr().err.splitlines()
        return sorted(line for line in lines if line.startswith("left out: ")), rows, metrics

    lines, rows, metrics = said("off", "features.cache=off")
    cached_lines, cached_rows, cached_metrics = said("on", "features.cache=on")
    assert cached_lines == lines
    assert_close(cached_rows, rows)
    assert cached_metrics == pytest.approx(metrics, abs=1e-5)
    assert [line.split()[2] for line in lines] == sorted(names)


@pytest.mark.slow
def test_strict_stops_at_such_a_photo_with_a_cache_too(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path("damaged")
    shutil.copytree(photos, root)
    name = damage(root, "train")
    for cache in ("off", "on", "on"):
        message = refused(
            capsys, *words(root, f"features.cache={cache}", f"run_dir=run-{cache}", "resume=auto")
        )
        assert message.startswith(f"{name} cannot be read")


def test_a_cache_that_cannot_be_is_refused_before_anything_is_written(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, *words(photos, "augment=light", "features.cache=on"))
    assert message.startswith("features.cache=on: augment=light varies each photo in every epoch.")
    assert not Path("runs").exists()

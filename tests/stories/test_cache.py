"""Training on resized photos, as a person types it."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from sagelight.config.compose import compose
from sagelight.data.index import index_images
from sagelight.processes import Processes
from sagelight.training.checkpoints import load_network
from sagelight.training.fit import build
from sagelight.training.inference import predict_split
from stories.commands import TINY, losses, refused, run


def words(root: Path, *more: str) -> list[str]:
    return [*TINY, f"data.root={root}", "trainer.max_epochs=2", "data.cache=memmap", *more]


def test_photos_are_resized_once_and_measured_as_without(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 36 photos of 37 x 46 pixels.
    said = "36 photos are resized once to 37 pixels: 0.00 GB in "
    assert run("train", *words(photos), "run_dir=first") == 0
    assert said in capsys.readouterr().err
    assert run("train", *words(photos, "data.num_workers=2"), "run_dir=second") == 0
    assert said not in capsys.readouterr().err
    assert losses(Path("first")) == losses(Path("second"))

    measured = {}
    for cache in ("memmap", "off"):
        config = compose(
            words(photos, f"data.cache={cache}", "data.eval_batch_size=5", "data.resize_size=37")
        )
        config.trainer.accelerator = "cpu"
        model, data = build(config, index_images(photos), Processes())
        load_network(model.network, Path("first/checkpoints/best.ckpt"))
        model.network.eval()
        measured[cache] = predict_split(
            model.network, data.eval_loader("validation"), torch.device("cpu"), None, "validation"
        )
    assert np.array_equal(measured["memmap"].probabilities, measured["off"].probabilities)

    assert run("cache", "kind=photos") == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].endswith(f"36 photos at 37, {photos}")
    assert listed[1].startswith("resized photos: 1 in ")
    del model, data
    # The trainings were of this process, whose objects go in circles.
    gc.collect()
    assert run("cache", "clear=true") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" MB, removed")
    assert run("cache") == 0
    assert [line.split(" in ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "features: 0",
        "resized photos: 0",
    ]


def test_what_does_not_fit_is_refused_before_a_run_is_made(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, *words(photos, "data.cache_max_gb=0.0001"))
    assert message.endswith("Type data.cache_max_gb=1, or data.cache=off.")
    assert not Path("runs").exists()

"""A smoke twin of every recipe: composed as shipped, shrunk to tiny photos, fitted and bundled."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagelight.config.groups import group_choices
from sagelight.serving.predictor import Predictor
from stories.commands import run

# make slow trains them; each takes ten to thirty seconds.
LARGE = ("vit_b_16", "efficientnet_v2_s", "convnext_tiny", "mobilenet_v3")
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
    for name in group_choices("experiment")
]


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_trains_and_answers(name: str, photos: Path) -> None:
    own = [] if name in ("digits", "smoke") else [f"data.root={photos}", "data.image_size=32"]
    words = ["trainer=smoke", "model.weights=none", "data.batch_size=4", "run_dir=run"]
    assert run("train", f"experiment={name}", *own, *words) == 0
    predictor = Predictor.load(Path("run/bundle"))
    [answer] = predictor.predict([photos / "red" / "0000.jpg"])
    assert answer.label in predictor.labels
    # The largest of these leave a gigabyte behind.
    for checkpoint in Path("run/checkpoints").iterdir():
        checkpoint.unlink()

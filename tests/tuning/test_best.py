from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from sagelight.config.compose import compose
from sagelight.tuning.best import experiment_file
from sagelight.tuning.study import read_study


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=digits", "optimizer.lr=0.01", "trainer.max_epochs=3"],
        ["optimizer.lr=0.01"],
        ["experiment=squeezenet", "data.root=photos", "model=resnet50", "callbacks=none", "model.dropout=0.5"],
        ["experiment=resnet18", "data.root='a b,c'", "trainer.limit_train_batches=null", "loss=balanced"],
    ],
)  # fmt: skip
def test_the_file_composes_to_what_the_overrides_compose_to(overrides: list[str]) -> None:
    Path("best.yaml").write_text(experiment_file(overrides, "study"))
    meant, got = compose(overrides), compose(["experiment=best.yaml"])
    assert got.name == "best"
    assert asdict(got) | {"name": ""} == asdict(meant) | {"name": ""}


def test_a_file_may_start_from_another_and_stands_alone() -> None:
    first = ["experiment=squeezenet", "data.root=photos", "model=resnet18", "optimizer.lr=0.01"]
    Path("first.yaml").write_text(experiment_file(first, "one"))
    second = ["experiment=first.yaml", "model=resnet50", "optimizer.lr=0.02"]
    Path("second.yaml").write_text(experiment_file(second, "two"))
    Path("first.yaml").unlink()
    config = compose(["experiment=second.yaml"])
    assert (config.model.backbone, config.optimizer.lr) == ("resnet50", 0.02)
    assert (config.data.root, config.callbacks.ema_decay) == ("photos", 0.98)


def test_it_trains_once_and_is_not_searched_again() -> None:
    overrides = ["experiment=digits", "hpo=default", "hpo.max_jobs=4", "optimizer.lr=0.01"]
    Path("best.yaml").write_text(experiment_file(overrides, "study"))
    assert not read_study(["experiment=best.yaml"]).tunes

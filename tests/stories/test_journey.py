"""Train, look at what is left, evaluate, predict, repeat."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
import yaml

from reporting.page import Page
from sagelight.bundle.spec import BundleSpec
from stories.commands import TINY, losses, read_csv, refused, run


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journey") / "runs" / "one"
    assert (
        run("train", *TINY, f"data.root={photos}", "trainer.max_epochs=8", f"run_dir={folder}") == 0
    )
    return folder


def test_the_run_leaves_what_is_promised(finished: Path) -> None:
    for name in [
        "config.yaml",
        "metrics.json",
        "metrics.csv",
        "report.html",
        "check.json",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "evaluation/confused.json",
        "bundle/bundle.json",
        "bundle/model.onnx",
        "bundle/model.safetensors",
        "bundle/metrics.json",
        "bundle/README.md",
        "bundle/code/inference.py",
        "bundle/code/requirements.txt",
        "bundle/deployment.py",
    ]:
        assert (finished / name).is_file(), name
    assert not list(finished.rglob("*.tmp"))
    assert (finished.parent / "latest").resolve() == finished.resolve()


def test_it_learned(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["test/accuracy"] >= 0.8
    assert metrics["val/accuracy"] >= 0.8
    for name in (
        "test/top5_accuracy",
        "test/macro_f1",
        "test/ece",
        "best_epoch",
        "images_per_second",
    ):
        assert name in metrics
    assert json.loads((finished / "bundle" / "metrics.json").read_text()) == metrics


def test_the_saved_configuration_is_complete_and_holds_no_auto(finished: Path) -> None:
    text = (finished / "config.yaml").read_text()
    assert "auto" not in text
    assert yaml.safe_load(text)["data"]["eval_batch_size"] == 16


def test_labels_are_carried_in_order(finished: Path) -> None:
    assert BundleSpec.read(finished / "bundle").labels == ["blue", "green", "red"]


def test_evaluate_gives_the_same_label_on_every_test_photo(
    finished: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "measured.json"
    assert run("evaluate", f"bundle={finished}/bundle", f"data.root={photos}", f"output={out}") == 0
    metrics = json.loads((finished / "metrics.json").read_text())
    assert json.loads(out.read_text())["test/accuracy"] == metrics["test/accuracy"]
    trained = {
        row["file"]: row["predicted"] for row in read_csv(finished / "evaluation" / "test.csv")
    }
    served = {
        row["file"]: row["predicted"] for row in read_csv(tmp_path / "measured.predictions.csv")
    }
    assert served == trained
    assert f"accuracy        {metrics['test/accuracy']:.4f}" in capsys.readouterr().out


def test_predict_agrees_with_the_test(finished: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    assert run("predict", f"bundle={finished}/bundle", f"input={photos}", f"output={out}") == 0
    labels = {row["file"]: row["label"] for row in read_csv(out)}
    assert len(labels) == 36
    for row in read_csv(finished / "evaluation" / "test.csv"):
        assert labels[row["file"]] == row["predicted"]


def test_explain_asks_the_trained_network_and_the_served_one(
    finished: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"bundle={finished}/bundle", f"input={photos}", f"output={tmp_path}/out", "limit=3"]
    assert run("explain", *words, "sanity=true") == 0
    shown = capsys.readouterr()
    assert "3 photos by Grad-CAM and Occlusion, 33 more not looked at (limit)" in shown.err
    assert re.search(r"^  gradcam +-?\d\.\d\d", shown.out, re.MULTILINE)
    content = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert content["methods"]["gradcam"] == {
        "unit": "score gained",
        "layer": "features.4",
        "cells": [7, 7],
    }
    assert [each["method"] for each in content["sanity"]] == ["gradcam", "occlusion"]
    trained = {
        row["file"]: row["predicted"] for row in read_csv(finished / "evaluation" / "test.csv")
    }
    for entry in content["photos"]:
        assert trained.get(entry["file"], entry["label"]) == entry["label"]
    page = Page(tmp_path / "out" / "index.html")
    assert len(page.all("img")) == 3 * 5 + 2 * 5
    assert "All random" in page.text


def test_its_configuration_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert run("--config-from", str(finished / "config.yaml"), f"run_dir={again}") == 0
    assert losses(again) == losses(finished)


def test_a_finished_run_is_not_trained_again(
    finished: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp = (finished / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    words = ("train", *TINY, f"data.root={photos}", "trainer.max_epochs=8", f"run_dir={finished}")
    assert run(*words) == 0
    assert "is finished already" in capsys.readouterr().out
    assert (finished / "checkpoints" / "last.ckpt").stat().st_mtime_ns == stamp
    message = refused(capsys, *words, "resume=off")
    assert "nothing in it is overwritten" in message


def test_the_metric_line_is_printed_once_an_epoch(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, f"data.root={photos}", "trainer.max_epochs=2", "augment=mixup_cutmix"]
    words += ["explain=false", "run_dir=run"]
    assert run("train", *words, "callbacks=ema", "loss=balanced", "optimizer=sgd") == 0
    assert not Path("run/evaluation/confused.json").exists()
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("sagelight-metrics ")]
    assert [line.split()[1] for line in lines] == ["epoch=1", "epoch=2"]
    assert "train/accuracy" not in lines[0]
    assert "auto: data.eval_batch_size=16 (twice data.batch_size)" in out


def test_the_bundle_starts_the_next_run(finished: Path, photos: Path) -> None:
    weights = f"model.weights={finished}/bundle/model.safetensors"
    words = [*TINY, f"data.root={photos}", "finetune=head", "trainer.max_epochs=3", weights]
    assert run("train", *words, "callbacks=early_stopping", "data.normalize=dataset") == 0


@pytest.mark.parametrize("recipe", ["gradual", "layer_decay"])
def test_the_other_recipes_train(photos: Path, recipe: str) -> None:
    words = [*TINY, f"data.root={photos}", f"finetune={recipe}", "trainer.max_epochs=3"]
    assert run("train", *words, "data.sampler=balanced", "trainer.gradient_clip_val=1") == 0


def test_tensorboard_is_written(photos: Path) -> None:
    words = [*TINY, f"data.root={photos}", "trainer=smoke", "logger=tensorboard", "run_dir=run"]
    assert run("train", *words) == 0
    assert list(Path("run").rglob("events.out.tfevents*"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_is_written(photos: Path) -> None:
    assert run("train", *TINY, f"data.root={photos}", "trainer=smoke", "logger=mlflow") == 0
    with sqlite3.connect("runs/mlflow.db") as store:
        logged = {key for (key,) in store.execute("select key from metrics")}
    store.close()
    assert {"train/loss", "val/accuracy"} <= logged


def test_a_logger_that_is_not_installed_says_what_to_type(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pytorch_lightning.loggers.mlflow._MLFLOW_AVAILABLE", False)
    message = refused(
        capsys, "train", *TINY, f"data.root={photos}", "trainer=smoke", "logger=mlflow"
    )
    assert message == (
        "logger=mlflow needs a package that is not installed. "
        "Type pip install 'sagelight[mlflow]', or logger=csv."
    )

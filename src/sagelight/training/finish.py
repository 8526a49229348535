"""After the last epoch: measure the best checkpoint once, bundle it, report it."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import torch

from sagelight.bundle.card import CardFacts
from sagelight.bundle.export import Parity, write_model
from sagelight.bundle.provenance import provenance
from sagelight.bundle.spec import INPUT, BundleSpec, Splits
from sagelight.bundle.write import write_bundle
from sagelight.config.save import config_digest
from sagelight.config.schema import Config
from sagelight.data.index import SPLITS
from sagelight.data.module import PhotoDataModule
from sagelight.explaining.confused import explain_confused
from sagelight.files import write_csv, write_json
from sagelight.metrics.evaluation import Evaluation, evaluate
from sagelight.models.classifier import Classifier
from sagelight.reporting.report import write_report
from sagelight.training.checkpoints import load_network
from sagelight.training.inference import Predictions, batches, predict_split
from sagelight.training.run import FINISHED, Run


def finish(
    config: Config, run: Run, model: Classifier, data: PhotoDataModule, command: str
) -> dict[str, float]:
    """Leave evaluation/, bundle/, report.html and, last of all, metrics.json in the run's directory.

    The test split is looked at here, once, with the best checkpoint. Everything is computed in fp32.

    Returns:
        The figures of metrics.json.
    """
    network = model.network
    load_network(network, run.best)
    device = torch.device(config.trainer.accelerator)
    network.to(device).eval()
    limit = config.trainer.limit_val_batches
    # Rounded features would make the figures those of another network.
    exact = config.trainer.precision == "32-true" and config.features.dtype == "float32"
    loader = data.eval_loader if exact else data.photo_loader
    found = {
        split: predict_split(network, loader(split), device, limit, split)
        for split in ("validation", "test")
    }
    # The other splits were read in training, which named what it met.
    for photo in found["test"].unreadable:
        print(f"left out: {photo.path} cannot be read ({photo.reason})", file=sys.stderr)
    labels = data.index.labels
    evaluations = {
        split: evaluate(each.probabilities, each.targets, labels)
        for split, each in found.items()
        if len(each.targets)
    }
    metrics = _figures(run.folder, config, evaluations)
    _write_evaluations(run.folder / "evaluation", data, found, evaluations)
    network.to("cpu")

    def write_proven_model(folder: Path) -> None:
        write_model(network, config.data.image_size, folder)
        _prove(folder / "model.onnx", data, found["validation"], limit)

    spec = _spec(config, run, data, command)
    facts = CardFacts(
        f"{config.name}: {config.model.backbone}",
        {split: data.index.counts(split) for split in SPLITS},
        evaluations.get("test"),
    )
    write_bundle(run.folder / "bundle", spec, metrics, write_proven_model, facts)
    if config.explain and "test" in evaluations:
        explain_confused(run.folder, data.index.source)
    write_report(run.folder, data.index.source)
    write_json(run.folder / FINISHED, metrics)
    return metrics


def _prove(path: Path, data: PhotoDataModule, trained: Predictions, limit: int | None) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parity, start = Parity(), 0
    for batch in batches(data.photo_loader("validation"), limit, "checking model.onnx"):
        if len(batch):
            served = session.run(None, {INPUT: batch.images.numpy()})[0]
            parity.add(trained.probabilities[start : start + len(batch)], np.asarray(served))
            start += len(batch)
    parity.check()


def _figures(folder: Path, config: Config, evaluations: dict[str, Evaluation]) -> dict[str, float]:
    names = {"test": "test", "validation": "val"}
    metrics: dict[str, float] = {}
    for split, name in names.items():
        if split in evaluations:
            metrics |= evaluations[split].figures(name)
    return metrics | _training_figures(folder / "metrics.csv", config)


def _training_figures(table: Path, config: Config) -> dict[str, float]:
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scored = [row for row in rows if row[config.hpo.metric]]
    sign = -1.0 if config.hpo.mode == "min" else 1.0
    best = max(scored, key=lambda row: sign * float(row[config.hpo.metric]))
    return {
        "best_epoch": int(best["epoch"]),
        "epochs": len(rows),
        "train_seconds": sum(float(row["seconds"]) for row in rows),
        "images_per_second": float(np.mean([float(row["images_per_second"]) for row in rows])),
    }


def _write_evaluations(
    folder: Path,
    data: PhotoDataModule,
    found: dict[str, Predictions],
    evaluations: dict[str, Evaluation],
) -> None:
    folder.mkdir(exist_ok=True)
    for split, evaluation in evaluations.items():
        write_json(folder / f"{split}.json", evaluation.to_dict())
        predictions, samples = found[split], data.index.splits[split]
        rows = []
        for row, target, position in zip(
            predictions.probabilities, predictions.targets, predictions.positions, strict=True
        ):
            predicted = int(row.argmax())
            rows.append(
                (
                    samples[position].path,
                    data.index.labels[target],
                    data.index.labels[predicted],
                    f"{row[predicted]:.6f}",
                    f"{row[target]:.6f}",
                )
            )
        columns = ("file", "label", "predicted", "confidence", "label_probability")
        write_csv(folder / f"{split}.csv", columns, rows)


def _spec(config: Config, run: Run, data: PhotoDataModule, command: str) -> BundleSpec:
    settings, index = config.data, data.index
    return BundleSpec(
        labels=index.labels,
        preprocessing=data.preprocessing,
        backbone=config.model.backbone,
        fingerprint=index.fingerprint,
        splits=Splits(
            settings.validation_fraction, settings.test_fraction, settings.split_seed, index.cut
        ),
        provenance=provenance(run.folder.as_posix(), config_digest(config), command),
    )

"""The model card: what a person should know before they use the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sagelight.bundle.spec import BundleSpec
from sagelight.metrics.evaluation import Evaluation

FRONT_MATTER = """\
---
library_name: sagelight
pipeline_tag: image-classification
tags:
- image-classification
- onnx
---
"""

USE = """\
## How to use it

On a photo or a folder of photos, from the command line:

```sh
sagelight predict bundle=bundle input=PHOTOS output=predictions.csv
```

In Python; neither loads PyTorch:

```python
from pathlib import Path

from sagelight.serving.predictor import Predictor

predictor = Predictor.load(Path("bundle"))
[prediction] = predictor.predict([Path("photo.jpg")])
print(prediction.label, prediction.confidence)
```

On a SageMaker endpoint: the content of this folder, packed as `model.tar.gz`; `code/inference.py`
answers one image a request (`image/jpeg`, `image/png`, ...) in JSON or CSV.
"""

FEW_PHOTOS = 30
NAMED_CLASSES = 10


@dataclass(frozen=True)
class CardFacts:
    """What a card says beyond bundle.json.

    Attributes:
        title: of the card, such as the run's name.
        counts: of each split, the photos of each class in the order of the labels.
        evaluation: on the photos of `split`, or None when nothing was measured.
        split: which photos `evaluation` was measured on.
    """

    title: str
    counts: Mapping[str, list[int]]
    evaluation: Evaluation | None = None
    split: str = "test"


def render_card(spec: BundleSpec, metrics: Mapping[str, float], facts: CardFacts) -> str:
    """The card as markdown, with a YAML head; `metrics` is the content of metrics.json."""
    classes = len(spec.labels)
    parts = [
        f"{FRONT_MATTER}\n# {_plain(facts.title)}",
        f"An image classifier: `{spec.backbone}`, {classes} classes, made with sagelight. "
        "It gives every image one probability for each class.",
        _figures(metrics, facts),
        USE.rstrip(),
        _data(spec, facts),
        _preprocessing(spec),
        _limits(facts),
        _provenance(spec),
    ]
    return "\n\n".join(parts) + "\n"


def _figures(metrics: Mapping[str, float], facts: CardFacts) -> str:
    title = "## How good it is\n\n"
    measured = facts.evaluation
    if measured is None:
        rows = [[name, f"{value:.4g}"] for name, value in metrics.items()]
        listed = _table(["figure", "value"], rows) if rows else ""
        return f"{title}Not measured on test photos.\n\n{listed}".rstrip()
    interval = f"{measured.accuracy_low:.3f} to {measured.accuracy_high:.3f}"
    rows = [["accuracy", f"{measured.accuracy:.3f}", interval]]
    if len(measured.labels) > 5:
        rows.append(["top-5 accuracy", f"{measured.top5_accuracy:.3f}", ""])
    rows += [
        ["macro F1", f"{measured.macro_f1:.3f}", ""],
        ["expected calibration error", f"{measured.ece:.3f}", ""],
        ["cross-entropy", f"{measured.loss:.3f}", ""],
    ]
    classes = [
        [
            _plain(row.label),
            *(f"{value:.3f}" for value in (row.precision, row.recall, row.f1)),
            str(row.support),
        ]
        for row in measured.per_class
    ]
    return (
        f"{title}On {measured.count:,} {facts.split} photos:\n\n"
        f"{_table(['figure', 'value', '95 % interval'], rows)}\n\n"
        f"{_table(['class', 'precision', 'recall', 'F1', 'photos'], classes)}"
    )


def _data(spec: BundleSpec, facts: CardFacts) -> str:
    rows = [
        [_plain(label), *(str(counts[index]) for counts in facts.counts.values())]
        for index, label in enumerate(spec.labels)
    ]
    rows.append(["all", *(str(sum(counts)) for counts in facts.counts.values())])
    cut = spec.splits.cut
    origin = f"Cut from the training folder: {', '.join(cut)}. " if cut else ""
    return (
        f"## Photos\n\n{_table(['class', *facts.counts], rows)}\n\n"
        f"{origin}Fingerprint of the data set: `{spec.fingerprint}`."
    )


def _preprocessing(spec: BundleSpec) -> str:
    steps = spec.preprocessing
    return (
        "## Preprocessing\n\n"
        "Upright RGB (EXIF orientation applied, transparency over white); short side to "
        f"{steps.resize_size} pixels, bilinear with antialiasing; centre "
        f"{steps.image_size} x {steps.image_size} kept. `model.onnx` takes these pixels as uint8 "
        "`(batch, 3, height, width)` and itself scales them, normalises them with mean "
        f"{_numbers(steps.mean)} and standard deviation {_numbers(steps.std)}, and gives "
        "probabilities."
    )


def _limits(facts: CardFacts) -> str:
    lines = [
        "It knows the classes above and nothing else: a photo of anything else gets one of their "
        "names, often with a high probability.",
        "Its figures hold for photos like those it was measured on, which come from the same "
        "source as the training photos. Other cameras, places, seasons or file conversions were "
        "not tested.",
        "It was not tested for differences among groups of people, nor against images made to "
        "deceive it.",
    ]
    measured = facts.evaluation.per_class if facts.evaluation else []
    few = [row for row in measured if row.support < FEW_PHOTOS]
    if few:
        few.sort(key=lambda row: row.support)
        names = ", ".join(f"{_plain(row.label)} ({row.support})" for row in few[:NAMED_CLASSES])
        if len(few) > NAMED_CLASSES:
            names += f" and {len(few) - NAMED_CLASSES:,} more"
        lines.append(
            f"Figures of classes with fewer than {FEW_PHOTOS} {facts.split} photos are rough: "
            f"{names}."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _provenance(spec: BundleSpec) -> str:
    facts = _flat(spec.provenance)
    rows = [[_plain(name), _plain(str(value))] for name, value in facts if value is not None]
    return f"## Where it comes from\n\n{_table(['what', 'value'], rows)}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _numbers(values: tuple[float, float, float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that stays itself in a table cell or a heading."""
    return re.sub(r"([\\|<`*_\[\]])", r"\\\1", " ".join(text.split()))

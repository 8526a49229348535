"""Classes of photos that are known from their folders, and the figures of answers against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sagelight.data.index import FOLDER_NAMES
from sagelight.metrics.evaluation import Evaluation
from sagelight.serving.measure import PredictionRow, SplitPredictions, UnreadablePhoto
from sagelight.serving.stream import Answer

TEST = "test"


def known_targets(files: Iterable[str], labels: Sequence[str]) -> dict[str, int]:
    """The class of each file that says it: `test/CLASS/...` where there is a test folder, else `CLASS/...`.

    Files of other splits, and of folders that are no class of the bundle, are left out.
    """
    positions = {label: index for index, label in enumerate(labels)}
    split = {file: file.split("/") for file in files}
    tests = {
        file: positions[parts[1]]
        for file, parts in split.items()
        if len(parts) > 2 and FOLDER_NAMES.get(parts[0].lower()) == TEST and parts[1] in positions
    }
    return tests or {
        file: positions[parts[0]]
        for file, parts in split.items()
        if len(parts) > 1 and parts[0] in positions
    }


def scored(answers: Iterable[Answer], targets: dict[str, int]) -> SplitPredictions:
    """The answers whose class is known; those without probabilities are apart."""
    found = SplitPredictions()
    for answer in answers:
        if answer.file not in targets:
            continue
        if answer.probabilities is None:
            found.unreadable.append(UnreadablePhoto(answer.file, answer.reason))
        else:
            target = targets[answer.file]
            found.rows.append(PredictionRow(answer.file, target, answer.probabilities))
    return found


def figures_content(found: SplitPredictions, evaluation: Evaluation, split: str) -> dict[str, Any]:
    """What a file of figures holds beside the names of what was measured."""
    return {
        "split": split,
        **evaluation.figures(split),
        "unreadable": [asdict(photo) for photo in found.unreadable],
        "evaluation": evaluation.to_dict(),
    }

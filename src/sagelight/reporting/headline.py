"""What a reader wants to know first."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.reporting.run import Run
from sagelight.reporting.text import NOTHING, duration, figure, percent, plural, value, whole

# With five classes or fewer, the true one is always among the first five.
FEWEST_CLASSES_FOR_TOP5 = 6


@dataclass(frozen=True)
class Fact:
    name: str
    value: str


@dataclass(frozen=True)
class Comparison:
    """One figure on both splits, written out."""

    name: str
    validation: str
    test: str


@dataclass(frozen=True)
class Headline:
    """The top of the page; accuracy and its 95 % interval are 0..1, None before the test."""

    name: str
    subtitle: str
    accuracy: float | None
    low: float | None
    high: float | None
    tested: str
    figures: list[Comparison]
    facts: list[Fact]


def headline(run: Run) -> Headline:
    name = run.setting("name")
    folder = run.folder.resolve().name
    return Headline(
        name=str(name) if name else folder,
        subtitle=", ".join(_subtitle(run)),
        accuracy=run.figures.get("test/accuracy"),
        low=run.figures.get("test/accuracy_low"),
        high=run.figures.get("test/accuracy_high"),
        tested=_tested(run),
        figures=_comparisons(run),
        facts=[Fact("Run", folder), *_facts(run)],
    )


def _subtitle(run: Run) -> list[str]:
    backbone = run.setting("model.backbone") or (run.bundle.backbone if run.bundle else None)
    recipe = run.setting("finetune.name")
    return [str(backbone)] * bool(backbone) + [f"finetune={recipe}"] * bool(recipe)


def _tested(run: Run) -> str:
    if run.test is None:
        return ""
    photos = plural(run.test.count, "test photo")
    return f"{photos} of {plural(len(run.test.labels), 'class', 'classes')}"


def _comparisons(run: Run) -> list[Comparison]:
    figures = {
        "Accuracy": ("accuracy", percent),
        "Top-5 accuracy": ("top5_accuracy", percent),
        "Macro F1": ("macro_f1", figure),
        "Calibration error (ECE)": ("ece", figure),
        "Loss": ("loss", figure),
    }
    if run.test and len(run.test.labels) < FEWEST_CLASSES_FOR_TOP5:
        del figures["Top-5 accuracy"]
    known = {**_best_so_far(run), **run.figures}
    rows = [
        Comparison(title, *(write(known.get(f"{split}/{key}")) for split in ("val", "test")))
        for title, (key, write) in figures.items()
    ]
    return [row for row in rows if (row.validation, row.test) != (NOTHING, NOTHING)]


def _best_so_far(run: Run) -> dict[str, float]:
    return next((row for row in run.epochs if row["epoch"] == run.best_epoch()), {})


def _facts(run: Run) -> list[Fact]:
    facts = []
    if run.epochs:
        planned = run.setting("trainer.max_epochs")
        done = whole(len(run.epochs))
        facts.append(Fact("Epochs", f"{done} of {planned}" if planned else done))
    best = run.best_epoch()
    if best is not None:
        facts.append(
            Fact("Best epoch" if "best_epoch" in run.figures else "Best epoch so far", str(best))
        )
    if "train_seconds" in run.figures:
        facts.append(Fact("Training took", duration(run.figures["train_seconds"])))
    if "images_per_second" in run.figures:
        facts.append(Fact("Speed", f"{whole(run.figures['images_per_second'])} photos a second"))
    if run.bundle and "created" in run.bundle.provenance:
        facts.append(Fact("Finished", value(run.bundle.provenance["created"])))
    return facts

"""Every kind of problem that the data gate knows, and the sentence that tells it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from sagelight.bundle.preprocessing import MAX_ASPECT, MAX_PIXELS
from sagelight.data.index import SPLITS, ImageIndex, Sample
from sagelight.data.inspect_file import HUGE_PIXELS, Facts
from sagelight.data.inspect_report import Problem, printable

MOST_FILES = 20
NAMED_CLASSES = 10
IMBALANCE = 10
# Problems of single files: severity, and what follows "3 photos ".
FILE_KINDS = {
    "zero_byte": ("error", "of zero bytes: copy again, or delete."),
    "unreadable": ("error", "that cannot be read as an image: replace, or delete."),
    "truncated": ("error", "cut short: copy again, or delete."),
    "too_large": (
        "error",
        f"of more than {MAX_PIXELS // 1_000_000} million pixels: scale down, or delete.",
    ),
    "too_thin": (
        "error",
        f"more than {MAX_ASPECT} times as long as wide: crop, or delete.",
    ),
    "leakage": (
        "error",
        "with copies in more than one split, which flatters the result: keep one copy of each.",
    ),
    "two_labels": (
        "error",
        "with copies under another label: keep the copy whose label is right.",
    ),
    "wrongly_named": (
        "warning",
        "whose extension names another format than the content: read by content, better renamed.",
    ),
    "animated": ("warning", "with several frames: only the first is used."),
    "cmyk": ("warning", "in CMYK: converted to RGB without a colour profile."),
    "sixteen_bit": ("warning", "of more than 8 bits a channel: reduced to 8."),
    "huge": (
        "warning",
        f"of more than {HUGE_PIXELS // 1_000_000} million pixels: slow; better scaled down.",
    ),
    "exif_rotated": ("note", "stored sideways: turned as their EXIF data says."),
    "copies": ("note", "that are copies within one class and split: harmless, seen more often."),
}


def file_problems(paths_by_code: dict[str, list[str]]) -> list[Problem]:
    """One problem for each code that has photos, in the order of `FILE_KINDS`."""
    problems = []
    for code, (severity, rest) in FILE_KINDS.items():
        paths = paths_by_code.get(code, [])
        if paths:
            message = f"{len(paths):,} photo{'s' if len(paths) > 1 else ''} {rest}"
            problems.append(Problem(code, severity, message, len(paths), paths[:MOST_FILES]))
    return problems


def copies(groups: Iterable[Sequence[tuple[str, Sample]]]) -> dict[str, list[str]]:
    """Paths by code, from groups of (split, photo) with the same bytes; copies side by side."""
    found: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        paths = [sample.path for _, sample in group]
        leaks = len({split for split, _ in group}) > 1
        mislabelled = len({sample.target for _, sample in group}) > 1
        if leaks:
            found["leakage"] += paths
        if mislabelled:
            found["two_labels"] += paths
        if not leaks and not mislabelled:
            found["copies"] += paths
    return found


def class_problems(index: ImageIndex) -> Iterator[Problem]:
    """What the counts tell: classes without photos where some are needed, and imbalance."""
    train, validation, test = (
        dict(zip(index.labels, index.counts(split), strict=True)) for split in SPLITS
    )
    held_out = {label: validation[label] + test[label] for label in index.labels}
    kinds = {
        "empty_class": [k for k in train if not train[k] and not held_out[k]],
        "class_not_in_training": [k for k in train if not train[k] and held_out[k]],
        "class_without_validation": [k for k in train if train[k] and not validation[k]],
        "class_without_test": [k for k in train if train[k] and not test[k] and any(test.values())],
        "one_image_class": [k for k in train if train[k] == 1],
    }
    for code, labels in kinds.items():
        if labels:
            yield _of_classes(index, code, labels)
    if not any(test.values()):
        yield Problem(
            "empty_test", "error", f"no test images: {_more_or_cut(index, 'test')}", 0, []
        )
    yield from _imbalance({label: count for label, count in train.items() if count})


def _of_classes(index: ImageIndex, code: str, labels: list[str]) -> Problem:
    severity, sentence = {
        "empty_class": ("error", "classes without images: {}. Add some, or delete the folders."),
        "class_not_in_training": (
            "error",
            "classes without training images: {}. Add some, or delete the folders elsewhere.",
        ),
        "class_without_validation": (
            "error",
            "classes without validation images: {}. " + _more_or_cut(index, "validation"),
        ),
        "class_without_test": (
            "warning",
            "classes without test images: {}. The test figures say nothing about them; add some.",
        ),
        "one_image_class": (
            "warning",
            "classes with one training image: {}. Too few to learn from; add some.",
        ),
    }[code]
    first = {s.target: s.path for split in reversed(SPLITS) for s in reversed(index.splits[split])}
    examples = code in ("class_not_in_training", "one_image_class")
    named = labels[:MOST_FILES] if examples else []
    files = [first[index.labels.index(label)] for label in named]
    message = sentence.format(_listed(labels))
    return Problem(code, severity, message, len(labels), files)


def _more_or_cut(index: ImageIndex, split: str) -> str:
    if split in index.cut:
        return "Add photos: too few to cut some off for every split."
    return f"Add some, or delete the {split} folder to have some cut from the training images."


def _imbalance(train: dict[str, int]) -> Iterator[Problem]:
    most, least = max(train, key=lambda k: train[k]), min(train, key=lambda k: train[k])
    ratio = train[most] / train[least]
    if ratio > IMBALANCE:
        message = (
            f"imbalance: {train[most]:,} training images of {printable(most)}, {train[least]:,} of "
            f"{printable(least)}. Consider data.sampler=balanced or loss.class_weights=balanced."
        )
        yield Problem("imbalance", "warning", message, 2, [])


def _listed(labels: list[str]) -> str:
    named = ", ".join(printable(label) for label in labels[:NAMED_CLASSES])
    more = len(labels) - NAMED_CLASSES
    return f"{named} and {more} more" if more > 0 else named


def paths_by_code(photos: Iterable[tuple[Sample, Facts]]) -> dict[str, list[str]]:
    """The paths of the photos that have each code."""
    found: dict[str, list[str]] = defaultdict(list)
    for sample, facts in photos:
        for code in facts.codes:
            found[code].append(sample.path)
    return found

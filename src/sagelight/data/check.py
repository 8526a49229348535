"""The data gate: is this folder of photos fit to train on? No torch here."""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from sagelight.config.setting import group, setting
from sagelight.data.index import SPLITS, ImageIndex, Sample
from sagelight.data.inspect_file import (
    CANNOT_BE_READ,
    Facts,
    content_digest,
    examine,
    examine_content,
)
from sagelight.data.inspect_problems import (
    class_problems,
    copies,
    file_problems,
    paths_by_code,
)
from sagelight.data.inspect_report import SEVERITIES, DataReport, Problem, printable
from sagelight.data.inspect_threads import spread
from sagelight.data.prepare import open_index
from sagelight.data.settings import DataSettings
from sagelight.errors import DataError
from sagelight.files import write_json

__all__ = [
    "CheckSettings",
    "DataReport",
    "Problem",
    "enforce",
    "inspect_data",
    "run_check",
]

NAMED_FILES = 3
Photo = tuple[str, Sample]


@dataclass
class CheckSettings:
    data: DataSettings = group(DataSettings)
    output: str | None = setting(None, "Also write what was found to this JSON file.")


def run_check(settings: CheckSettings) -> None:
    """The verb: look at every byte, tell, and fail when something would spoil a training.

    Raises:
        DataError: no such data, or at least one error in it.
    """
    report = inspect_data(open_index(settings.data), full=True)
    print(report.text())
    if settings.output:
        Path(settings.output).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(settings.output), report.to_dict())
    if report.errors:
        codes = ", ".join(f"{problem.code} ({problem.count})" for problem in report.errors)
        raise DataError(
            f"data.root={report.root} is not fit to train on: {codes}. "
            "Mend it as told above, or train with check=warn."
        )


def inspect_data(index: ImageIndex, *, full: bool) -> DataReport:
    """Look for what would spoil a training.

    Args:
        full: decode and hash every photo; otherwise read headers and tails, and hash only photos
            of the same size and tail, which may be copies. Photos in shards were looked at when those were
            written, and are looked at again only in full.
    """
    photos = [(split, sample) for split in SPLITS for sample in index.splits[split]]
    looked_at = photos if full or index.shards is None else []
    facts = list(
        spread(
            lambda photo: _examined(index, photo[1], full),
            looked_at,
            "Checking photos",
            threads=None if full else 1,
        )
    )
    by_code = paths_by_code(
        (sample, fact) for (_, sample), fact in zip(looked_at, facts, strict=True)
    )
    by_code |= copies(_same_bytes(index.root, looked_at, facts))
    problems = [*class_problems(index), *file_problems(by_code)]
    return DataReport(
        root=index.name,
        fingerprint=index.fingerprint,
        content_fingerprint=_content_fingerprint(photos, facts) if full else None,
        full=full,
        counts={
            split: dict(zip(index.labels, index.counts(split), strict=True)) for split in SPLITS
        },
        cut=list(index.cut),
        problems=sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity)),
        unreadable=sorted({path for code in CANNOT_BE_READ for path in by_code.get(code, [])}),
    )


def _examined(index: ImageIndex, sample: Sample, full: bool) -> Facts:
    content = index.content(sample)
    if isinstance(content, Path):
        return examine(content, full=full)
    facts = examine_content(content, Path(sample.path))
    # A photo that was scaled is a JPEG in its shard, whatever its name was.
    return replace(facts, codes=tuple(code for code in facts.codes if code != "wrongly_named"))


def enforce(report: DataReport, policy: str) -> None:
    """Act on a report.

    Args:
        policy: `strict` refuses errors and prints warnings; `warn` prints both; `off` does nothing.

    Raises:
        DataError: the policy is strict and there are errors.
    """
    if policy == "off":
        return
    if policy == "strict" and report.errors:
        raise DataError(_refusal(report))
    for problem in [*report.errors, *report.of("warning")]:
        print(f"data.root={report.root}: {problem.severity}: {_brief(problem)}", file=sys.stderr)


def _refusal(report: DataReport) -> str:
    said = [_brief(problem) for problem in report.errors]
    listed = f" {said[0]} " if len(said) == 1 else "".join(f"\n  {line}" for line in said) + "\n"
    return (
        f"data.root={report.root} is not fit to train on:{listed}"
        f"Type `python launch/local.py check data.root={report.root}` for the whole list, "
        "or check=warn to go on."
    )


def _brief(problem: Problem) -> str:
    if not problem.files:
        return problem.message
    first = ", ".join(printable(path) for path in problem.files[:NAMED_FILES])
    return f"{problem.message} ({first}{', ...' if problem.count > NAMED_FILES else ''})"


def _same_bytes(root: Path, photos: list[Photo], facts: list[Facts]) -> list[list[Photo]]:
    alike: dict[tuple[int, bytes, str], list[int]] = defaultdict(list)
    for at, fact in enumerate(facts):
        if fact.tail:
            alike[fact.size, fact.tail, fact.digest].append(at)
    again = [at for group_ in alike.values() if len(group_) > 1 for at in group_]
    if not again:
        return []

    def digest(at: int) -> str:
        return facts[at].digest or content_digest(root / photos[at][1].path)

    same: dict[str, list[Photo]] = defaultdict(list)
    for at, found in zip(again, spread(digest, again, "Comparing photos"), strict=True):
        same[found].append(photos[at])
    return [group_ for group_ in same.values() if len(group_) > 1]


def _content_fingerprint(photos: list[Photo], facts: list[Facts]) -> str:
    lines = sorted(
        f"{sample.path}\0{fact.digest}\n" for (_, sample), fact in zip(photos, facts, strict=True)
    )
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

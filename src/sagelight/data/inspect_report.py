"""What the data gate found: a record that can be saved, read back and printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("error", "warning", "note")
SHOWN_FILES = 5
SHOWN_CLASSES = 30
SHOWN_EDGE = 10
LABEL_WIDTH = 40


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    Attributes:
        code: its name, for programs.
        severity: error (spoils the result or stops the run), warning (handled) or note (harmless).
        message: one sentence: how many of what, and what to do.
        count: photos, or classes where classes are concerned.
        files: at most 20 examples, relative to the root.
    """

    code: str
    severity: str
    message: str
    count: int
    files: list[str]


@dataclass(frozen=True)
class DataReport:
    """The state of a data set.

    Attributes:
        fingerprint: of paths and sizes.
        content_fingerprint: of paths and contents; None unless `full`.
        counts: photos of each label in each split.
        cut: the splits that were cut from the training photos.
        unreadable: every photo that cannot be decoded, relative to the root.
    """

    root: str
    fingerprint: str
    content_fingerprint: str | None
    full: bool
    counts: dict[str, dict[str, int]]
    cut: list[str]
    problems: list[Problem]
    unreadable: list[str]

    @property
    def errors(self) -> list[Problem]:
        return self.of("error")

    def of(self, severity: str) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == severity]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> DataReport:
        return cls(
            **{**entries, "problems": [Problem(**problem) for problem in entries["problems"]]}
        )

    def text(self) -> str:
        """What a person reads: the counts, the problems with the worst first, and a verdict."""
        lines = [*self._head(), "", *self._table()]
        for severity in SEVERITIES:
            for problem in self.of(severity):
                lines += ["", f"{severity}: {problem.message}", *_examples(problem)]
        return "\n".join([*lines, "", self.verdict()])

    def verdict(self) -> str:
        errors, warnings = (_counted(len(self.of(s)), s) for s in ("error", "warning"))
        if self.errors:
            return f"Not fit to train on: {errors}, {warnings}."
        return f"Fit to train on: no errors, {warnings}."

    def _head(self) -> list[str]:
        total = sum(sum(row.values()) for row in self.counts.values())
        classes = len(next(iter(self.counts.values())))
        lines = [f"{printable(self.root)}: {total:,} photos of {classes} classes"]
        lines.append(f"fingerprint {self.fingerprint}")
        if self.content_fingerprint:
            lines.append(f"content     {self.content_fingerprint}")
        if self.cut:
            lines.append(f"{' and '.join(self.cut)} cut from the training photos")
        return lines

    def _table(self) -> list[str]:
        splits = list(self.counts)
        rows = {label: [self.counts[s][label] for s in splits] for label in self.counts[splits[0]]}
        names = {label: printable(label)[:LABEL_WIDTH] for label in rows}
        width = max(len("class"), *(len(name) for name in names.values()))
        lines = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in splits)]
        lines += [f"{names[k]:<{width}}" + "".join(f"{n:>12,}" for n in v) for k, v in rows.items()]
        if len(rows) > SHOWN_CLASSES:
            lines = self._edges(lines, list(rows))
        totals = [sum(self.counts[split].values()) for split in splits]
        return [*lines, f"{'all':<{width}}" + "".join(f"{n:>12,}" for n in totals)]

    def _edges(self, lines: list[str], labels: list[str]) -> list[str]:
        """The header and the largest and smallest classes, for a table too long to be read."""
        train = next(iter(self.counts.values()))
        order = sorted(range(len(labels)), key=lambda row: -train[labels[row]])
        largest, smallest = order[:SHOWN_EDGE], order[-SHOWN_EDGE:]
        between = f"... {len(labels) - 2 * SHOWN_EDGE} classes between the largest and the smallest"
        return [
            lines[0],
            *(lines[1 + row] for row in largest),
            between,
            *(lines[1 + row] for row in smallest),
        ]


def printable(name: str) -> str:
    """A file name that any terminal takes; bytes that are no text appear as escapes."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _examples(problem: Problem) -> list[str]:
    lines = [f"    {printable(path)}" for path in problem.files[:SHOWN_FILES]]
    more = problem.count - len(lines)
    return [*lines, f"    and {more:,} more"] if lines and more > 0 else lines


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"

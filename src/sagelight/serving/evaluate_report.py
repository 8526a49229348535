"""What `evaluate` prints: the figures in a few lines, and the classes to look at first."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path

from sagelight.metrics.evaluation import Evaluation

WORST = 5


def text_report(
    evaluation: Evaluation, bundle: str, root: Path | str, split: str, unreadable: Sized
) -> str:
    """Figures of an evaluation and its worst classes, as lines to print."""
    left_out = f" ({len(unreadable)} unreadable, left out)" if len(unreadable) else ""
    lines = [
        f"{'bundle':<16}{bundle}",
        f"{'photos':<16}{root}, {split}: {evaluation.count:,}{left_out}",
        "",
        f"{'accuracy':<16}{evaluation.accuracy:.4f}  (95 % interval "
        f"{evaluation.accuracy_low:.4f} to {evaluation.accuracy_high:.4f})",
    ]
    if len(evaluation.labels) > 5:
        lines.append(f"{'top-5 accuracy':<16}{evaluation.top5_accuracy:.4f}")
    lines += [
        f"{'macro F1':<16}{evaluation.macro_f1:.4f}",
        f"{'ECE':<16}{evaluation.ece:.4f}",
        f"{'loss':<16}{evaluation.loss:.4f}",
        "",
        *_worst(evaluation),
    ]
    return "\n".join(lines)


def _worst(evaluation: Evaluation) -> list[str]:
    present = [row for row in evaluation.per_class if row.support]
    worst = sorted(present, key=lambda row: row.f1)[:WORST]
    title = "class" if len(worst) == len(present) else f"worst of {len(present)}"
    width = max(len(title), *(len(row.label) for row in worst))
    header = f"{title:<{width}}  {'F1':>6}  {'recall':>6}  {'precision':>9}  {'photos':>6}"
    return [
        header,
        *(
            f"{row.label:<{width}}  {row.f1:>6.3f}  {row.recall:>6.3f}  "
            f"{row.precision:>9.3f}  {row.support:>6,}"
            for row in worst
        ),
    ]

"""One self-contained HTML page about one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sagelight import __version__
from sagelight.data.shards.archives import Shards
from sagelight.files import write_text
from sagelight.metrics.evaluation import ClassFigures
from sagelight.reporting import origin
from sagelight.reporting.confused import pair_maps
from sagelight.reporting.confusion import confusion_matrix
from sagelight.reporting.curves import learning_curves
from sagelight.reporting.debugger import debugger_part
from sagelight.reporting.headline import headline
from sagelight.reporting.mistakes import pair_exhibits, worst_mistakes, wrong_photos
from sagelight.reporting.profiler import profiler_part
from sagelight.reporting.reliability import percent_range, reliability
from sagelight.reporting.rendering import asset, render, script_digest
from sagelight.reporting.run import Run, read_run
from sagelight.reporting.text import FILTERS


def write_report(run_dir: Path, data_root: Path | Shards | None) -> Path:
    """Write `run_dir/report.html` from what the run has left so far, and return its path.

    Args:
        run_dir: a run's directory, finished or interrupted.
        data_root: where the photos of evaluation/test.csv are; None shows none of them.

    Raises:
        RunError: no such directory, or a file in it is damaged.
        BundleError: the bundle in it is damaged.
    """
    run = read_run(run_dir)
    path = run_dir / "report.html"
    write_text(path, _render(_content(run, data_root)))
    return path


def _content(run: Run, data_root: Path | Shards | None) -> dict[str, Any]:
    test = run.test
    return {
        "run": run,
        "data_root": data_root,
        "version": __version__,
        "headline": headline(run),
        "curves": learning_curves(run),
        "classes": sorted(test.per_class, key=_worst_first) if test else [],
        "matrix": confusion_matrix(test) if test else None,
        "pairs": pair_exhibits(run, data_root),
        "pair_maps": pair_maps(run),
        "wrong": len(wrong_photos(run)),
        "worst": worst_mistakes(run, data_root),
        "reliability": reliability(test) if test else None,
        "debugger": debugger_part(run.folder),
        "profiler": profiler_part(run.folder),
        "check": origin.data_check(run),
        "settings": origin.settings(run.config),
        "environment": origin.environment(run),
        "versions": origin.versions(run),
        "commands": origin.commands(run),
    }


def _worst_first(row: ClassFigures) -> tuple[bool, float, str]:
    return row.support == 0, row.f1, row.label


def _render(content: dict[str, Any]) -> str:
    script = asset("report.js")
    page = {"style": asset("report.css"), "script": script, "script_digest": script_digest(script)}
    return render(
        "report.html.j2", {**content, **page}, {**FILTERS, "percent_range": percent_range}
    )

"""What a run's debugger has found: its rules, and the losses and gradients that they looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagelight.debugging.trial import FOLDER, TRIAL, Trial
from sagelight.errors import DataError
from sagelight.reporting.debugger_charts import charts
from sagelight.reporting.line_chart import Chart
from sagelight.reporting.rule_marks import marks_of
from sagelight.reporting.run import readable
from sagelight.reporting.text import plural
from sagelight.reporting.verdicts import Findings, Found, read_findings
from sagelight.rulebook import FINDINGS

_MODES = {"TRAIN": "training step", "EVAL": "validation"}


@dataclass(frozen=True)
class DebuggerPart:
    """The section about rules and tensors.

    Attributes:
        findings: None where the training has not ended.
        warnings: what a reader must know before the table, in sentences.
        seen: what was looked at; empty where there is no trial.
        damaged: what could not be read, in sentences.
    """

    findings: Findings | None
    warnings: list[str]
    charts: list[Chart]
    seen: str
    damaged: list[str]


def debugger_part(run: Path) -> DebuggerPart | None:
    """The section of a run; None where nobody watched it.

    Raises:
        RunError: its findings.json is damaged.
    """
    folder = run / FOLDER
    if not folder.is_dir():
        return None
    findings = read_findings(folder, _found)
    told = findings.rest if findings else {}
    with readable(folder / FINDINGS):
        status = dict(told.get("status") or {})
        damaged = [str(each) for each in told.get("damaged", ())]
    trial = _trial(folder, status)
    return DebuggerPart(
        findings,
        _warnings(status, str(told.get("stopped_by") or ""), folder),
        charts(trial, marks_of(findings.rows if findings else [])) if trial else [],
        _seen(trial) if trial else "",
        list(dict.fromkeys([*damaged, *(trial.damaged if trial else [])])),
    )


def _found(entry: Any) -> Found:
    moment = entry["moment"]
    step = int(moment["global_step"])
    when = f"step {step} ({moment['mode']} {moment['step']})"
    return Found(str(entry["tensor"]), when, str(entry["numbers"]), step=step)


def _trial(folder: Path, status: dict[str, Any]) -> Trial | None:
    """The run's own, what was fetched of a job, or what a hook configuration has put elsewhere."""
    elsewhere = [Path(str(status["folder"]))] if status.get("folder") else []
    for each in (folder / TRIAL, folder, *elsewhere):
        try:
            return Trial.open(each)
        except DataError:
            continue
    return None


def _warnings(status: dict[str, Any], stopped_by: str, folder: Path) -> list[str]:
    warnings = []
    if stopped_by:
        warnings.append(f"{stopped_by} ended the training, as debugger.actions asked.")
    if status.get("stopped"):
        warnings.append(
            f"Watching stopped before the training did, and what came later was not judged: {status['stopped']}."
        )
    if any(folder.glob("replay-*.pt")):
        name = min(path.name for path in folder.glob("replay-*.pt"))
        warnings.append(
            f"A loss was not finite. {FOLDER}/{name} keeps its batch and the weights; the verb debug with replay says where it began."
        )
    return warnings


def _seen(trial: Trial) -> str:
    modes = [moment.mode for moment in trial.moments()]
    counts = [plural(modes.count(mode), words) for mode, words in _MODES.items() if mode in modes]
    return " and ".join(counts)

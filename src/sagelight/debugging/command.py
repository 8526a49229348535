"""The verb `debug`: rules about a training's tensors, wherever it ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import group, setting
from sagelight.debugging.rules.base import Rule, Verdict
from sagelight.debugging.rules.catalogue import build_rules
from sagelight.debugging.rules.evaluate import Evaluation, findings
from sagelight.debugging.trial import FOLDER, TRIAL, Trial
from sagelight.errors import ConfigError
from sagelight.files import write_json

SHOWN = 3
S3 = "s3://"


@dataclass
class DebugSettings:
    trial: str | None = setting(
        None,
        "A run's folder, a trial's, or its s3://BUCKET/PREFIX: what a run's, a SageMaker job's or smdebug's hook has left.",
    )
    replay: str | None = setting(
        None, "A run's debugger/replay-0.pt: the batch whose loss was not finite, looked at again."
    )
    rules: list[str] = setting(
        [], "Rules by AWS's names, as [VanishingGradient,Overfit]; none is all."
    )
    parameters: dict[str, Any] = setting(
        {}, "Parameters by rule, as {Overfit: {patience: 3}}; the defaults are AWS's."
    )
    output: str | None = setting(None, "FILE.json for the findings.")
    cloud: CloudSettings = group(CloudSettings)


def run_debug(settings: DebugSettings) -> None:
    """Evaluate rules over a trial, and print what they found; or look again at a batch that ended a training.

    Raises:
        ConfigError: no trial, an unknown rule or parameter.
        DataError: there is no trial in that folder, or no replay in that file.
        CloudError: there is none at that address, or AWS refuses to say.
    """
    if settings.replay is not None:
        _replay(Path(settings.replay))
        return
    if settings.trial is None:
        raise ConfigError("debug needs trial. Type debug trial=DIR, or replay=FILE.")
    rules = build_rules(settings.rules, settings.parameters)
    with _folder(settings.trial, settings.cloud) as folder:
        _judge(Trial.open(folder), rules, settings)


@contextmanager
def _folder(trial: str, cloud: CloudSettings) -> Iterator[Path]:
    """The trial's folder; of an address in S3, a copy that lives as long as the block."""
    if not trial.startswith(S3):
        inside = Path(trial) / FOLDER / TRIAL
        yield inside if inside.is_dir() else Path(trial)
        return
    from sagelight.cloud.tensors import downloaded_trial

    with downloaded_trial(trial, cloud) as folder:
        yield folder


def _replay(path: Path) -> None:
    # Torch loads for seconds, and rules do without it.
    from sagelight.debugging.replaying import replay

    print("\n".join(replay(path).lines()))


def _judge(trial: Trial, rules: Sequence[Rule], settings: DebugSettings) -> None:
    evaluation = Evaluation(trial, rules)
    verdicts = evaluation.end()
    place = settings.trial if str(settings.trial).startswith(S3) else trial.folder
    print(f"{place}: {_heading(trial)}")
    for verdict, rule in zip(verdicts, rules, strict=True):
        print("\n".join(_lines(verdict, rule)))
    for sentence in trial.damaged:
        print(f"damaged: {sentence}")
    if settings.output is not None:
        write_json(Path(settings.output), findings(evaluation))


def _heading(trial: Trial) -> str:
    moments = trial.moments()
    steps = {
        mode: sum(m.mode == mode for m in moments) for mode in sorted({m.mode for m in moments})
    }
    counted = ", ".join(f"{count} of {mode}" for mode, count in steps.items()) or "none"
    end = "" if trial.ended else "; its writer has not said that it ended"
    return f"{len(trial.names())} tensors, steps: {counted}{end}"


def _lines(verdict: Verdict, rule: Rule) -> Sequence[str]:
    counted = f"{verdict.points} values" if verdict.points else verdict.reason
    lines = [f"{verdict.status:15} {verdict.name}: {counted}"]
    if verdict.status == "Error":
        return [f"{verdict.status:15} {verdict.name}: {verdict.reason}"]
    if not verdict.found:
        return lines
    lines[0] += f", {verdict.found} of them wrong: {rule.means}"
    for found in verdict.findings[:SHOWN]:
        when = f"step {found.moment.step} of {found.moment.mode}"
        lines.append(f"{'':15}   {when}: {found.tensor}: {found.numbers}")
    if verdict.found > SHOWN:
        lines.append(f"{'':15}   and {verdict.found - SHOWN} more")
    lines.append(f"{'':15}   {rule.advice}")
    return lines

"""The verbs on jobs that exist: status, logs, stop, fetch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagelight.cloud.client import Aws, explained
from sagelight.cloud.follow import (
    ENDED,
    KINDS,
    LOG_GROUPS,
    PROCESSING,
    STOPPING,
    TRAINING,
    TRANSFORM,
    TUNING,
    LogTail,
    find_job,
)
from sagelight.cloud.place import find_place
from sagelight.cloud.results import fetch_results, state_of, trials
from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import AUTO, group, setting
from sagelight.errors import CloudError, ConfigError
from sagelight.tuning.trials import table

_STOP: dict[str, Callable[[Any, str], Any]] = {
    TRAINING: lambda client, name: client.stop_training_job(TrainingJobName=name),
    TUNING: lambda client, name: client.stop_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name
    ),
    TRANSFORM: lambda client, name: client.stop_transform_job(TransformJobName=name),
    PROCESSING: lambda client, name: client.stop_processing_job(ProcessingJobName=name),
}
# Of the longest state of a rule, NoIssuesFound.
STATUS_WIDTH = 13


@dataclass
class JobSettings:
    job: str | None = setting(
        None, "Name of a training, tuning, transform or Clarify job, as it was printed."
    )
    cloud: CloudSettings = group(CloudSettings)


@dataclass
class FetchSettings:
    job: str | None = setting(None, "Name of a training or tuning job, as it was printed.")
    output: str = setting("auto", "Folder for it; auto is runs/<job>.")
    cloud: CloudSettings = group(CloudSettings)


def run_status(settings: JobSettings) -> None:
    """Print what a job is doing, what Debugger's rules found, and the trials of a study.

    Raises:
        CloudError: no such job.
    """
    aws, name = _aws(settings)
    state = find_job(aws, name, KINDS)
    print(f"{name}: {state.doing}" + (f": {state.reason}" if state.reason else ""))
    for line in rule_lines(state.described):
        print(line)
    if state.kind == TUNING:
        print(table(trials(aws, name)))


def rule_lines(described: Mapping[str, Any]) -> Iterator[str]:
    """What Debugger's rules have come to, a line each; nothing for a job that has none."""
    for kind in ("DebugRule", "ProfilerRule"):
        for rule in described.get(f"{kind}EvaluationStatuses") or ():
            details = rule.get("StatusDetails")
            line = f"  {rule.get('RuleEvaluationStatus', ''):{STATUS_WIDTH}} "
            line += str(rule.get("RuleConfigurationName", ""))
            yield line + (f": {' '.join(details.split())}" if details else "")


def run_logs(settings: JobSettings) -> None:
    """Print the log of a training, transform or Clarify job as far as it has come.

    Raises:
        CloudError: no such job, or a tuning job, whose trials have the logs.
    """
    aws, name = _aws(settings)
    state = find_job(aws, name, KINDS)
    if state.kind == TUNING:
        first = next(iter(trials(aws, name)), None)
        example = first.name if first else "TRIAL"
        raise CloudError(f"{name} is a study; its trials have the logs. Type logs job={example}.")
    with explained(f"reading the log of {name}"):
        for line in LogTail(aws, name, LOG_GROUPS[state.kind]).lines():
            print(line)


def run_stop(settings: JobSettings) -> None:
    """Ask a job to stop.

    Raises:
        CloudError: no such job.
    """
    aws, name = _aws(settings)
    state = find_job(aws, name, KINDS)
    if state.ended:
        print(f"{name} has ended already: {state.doing}")
        return
    try:
        with explained(f"stopping {name}"):
            _STOP[state.kind](aws.sagemaker, name)
    except CloudError:
        # An earlier request, whose answer was lost, may have been heard.
        if find_job(aws, name, (state.kind,)).status not in (STOPPING, *ENDED):
            raise
    print(f"{name} is stopping")


def run_fetch(settings: FetchSettings) -> None:
    """Fetch what a job has left.

    Raises:
        CloudError: no such job, or it has left nothing yet.
    """
    aws, name = _aws(settings)
    state = state_of(aws, name)
    folder = Path("runs") / name if settings.output == AUTO else Path(settings.output)
    fetch_results(aws, state, folder)
    print(f"report  {folder / 'report.html'}\nbundle  {folder / 'bundle'}")


def _aws(settings: JobSettings | FetchSettings) -> tuple[Aws, str]:
    if settings.job is None:
        raise ConfigError("which job? Type job=NAME, as it was printed when the job started.")
    found = find_place(settings.cloud)
    return Aws(settings.cloud, found.place.region), settings.job

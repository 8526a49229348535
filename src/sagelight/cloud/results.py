"""What jobs leave: fetched, unpacked without trust, and the trials of a study as a table."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from sagelight.archives import unpack
from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.follow import TUNING, JobState, find_job, readable_reason
from sagelight.cloud.tensors import fetch_trial, trial_uri
from sagelight.config.hyperparameters import decode, unwrapped
from sagelight.errors import CloudError
from sagelight.files import scratch_folder, write_text
from sagelight.tuning.trials import Trial, write_best, write_trials

# Names the job whose results a folder holds.
MARKER = "job.txt"
# Where a run on this machine keeps its trial, too.
TRIAL = "debugger"


def fetch_results(aws: Aws, state: JobState, folder: Path) -> Path:
    """Download what a training left into `folder`: the run's files, its bundle in `folder/bundle`, and the tensors
    that Debugger was asked to keep in `folder/debugger`.

    Returns:
        `folder`.

    Raises:
        CloudError: the job left nothing, or `folder` holds something other than this job's results.
    """
    artifacts = state.described.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    if not artifacts:
        raise CloudError(
            f"{state.name} has left nothing yet: it is {state.doing}. Type status job={state.name}."
        )
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MARKER).is_file() or (folder / MARKER).read_text() != state.name:
            raise CloudError(
                f"{folder} holds something else, and nothing in it is overwritten. "
                f"Type fetch job={state.name} output=DIR with a new folder."
            )
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder) as scratch:
        whole = scratch / "run"
        _unpack(
            aws,
            artifacts.replace("model.tar.gz", "output.tar.gz"),
            whole,
            scratch,
            optional=True,
        )
        _unpack(aws, artifacts, whole / "bundle", scratch)
        tensors = trial_uri(state.described)
        if tensors is not None:
            fetch_trial(aws, tensors, whole / TRIAL)
        write_text(whole / MARKER, state.name)
        if folder.is_dir():
            folder.rmdir()
        shutil.move(whole, folder)
    return folder


def trials(aws: Aws, name: str) -> list[Trial]:
    """Every training of a study, in the order in which they were started."""
    with explained(f"listing the trials of {name}"):
        pages = aws.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
        found = [
            trial
            for page in pages.paginate(HyperParameterTuningJobName=name)
            for trial in page["TrainingJobSummaries"]
        ]
    return [_trial(row) for row in sorted(found, key=lambda row: row["TrainingJobName"])]


def _trial(row: dict[str, Any]) -> Trial:
    metric = row.get("FinalHyperParameterTuningJobObjectiveMetric")
    return Trial(
        row["TrainingJobName"],
        "InProgress" if row["TrainingJobStatus"] == "Stopping" else row["TrainingJobStatus"],
        float(metric["Value"]) if metric else None,
        {name: unwrapped(text) for name, text in row["TunedHyperParameters"].items()},
        _seconds(row),
        reason=readable_reason(row.get("FailureReason", "")),
    )


def best_overrides(state: JobState) -> list[str]:
    """The tuned values of a study's best trial, as overrides.

    Raises:
        CloudError: no trial has an objective.
    """
    best = state.described.get("BestTrainingJob")
    if not best:
        raise CloudError(f"{state.name} has no best trial: {state.reason or state.doing}.")
    return decode(best["TunedHyperParameters"])


def write_study(state: JobState, rows: Sequence[Trial], folder: Path, fixed: list[str]) -> None:
    """Leave trials.csv, one row a trial, and best.yaml, an experiment file that trains the best one again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_trials(rows, folder)
    best = state.described.get("BestTrainingJob")
    if best:
        write_best(_trial(best), fixed, state.name, folder)


def state_of(aws: Aws, name: str) -> JobState:
    """The training job to fetch for a name: itself, or the best trial of a study."""
    state = find_job(aws, name)
    if state.kind != TUNING:
        return state
    best = state.described.get("BestTrainingJob")
    if not best:
        raise CloudError(f"{name} has no best trial yet: it is {state.doing}.")
    return find_job(aws, best["TrainingJobName"])


def _unpack(aws: Aws, uri: str, target: Path, scratch: Path, optional: bool = False) -> None:
    from botocore.exceptions import ClientError

    place = urlparse(uri)
    archive = scratch / Path(place.path).name
    with explained(f"fetching {uri}"):
        try:
            aws.s3.download_file(place.netloc, place.path.lstrip("/"), str(archive))
        except ClientError as error:
            # Without the right to list the whole bucket, what is not there is forbidden.
            if optional and error_code(error) in ("404", "403"):
                return
            raise
    unpack(archive, target)
    archive.unlink()


def _seconds(row: dict[str, Any]) -> float | None:
    started, ended = row.get("TrainingStartTime"), row.get("TrainingEndTime")
    return (ended - started).total_seconds() if started and ended else None

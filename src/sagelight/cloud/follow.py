"""Following jobs that run elsewhere: their state, their log, and coming back to them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.errors import CloudError

ENDED = ("Completed", "Failed", "Stopped")
STOPPING = "Stopping"
TRAINING, TUNING, TRANSFORM, PROCESSING = "training", "tuning", "transform", "processing"
LEARNING = (TRAINING, TUNING)
KINDS = (*LEARNING, TRANSFORM, PROCESSING)
STATUS = {
    TRAINING: "TrainingJobStatus",
    TUNING: "HyperParameterTuningJobStatus",
    TRANSFORM: "TransformJobStatus",
    PROCESSING: "ProcessingJobStatus",
}
LOG_GROUPS = {
    TRAINING: "/aws/sagemaker/TrainingJobs",
    TRANSFORM: "/aws/sagemaker/TransformJobs",
    PROCESSING: "/aws/sagemaker/ProcessingJobs",
}


@dataclass(frozen=True)
class JobState:
    """A job as the service describes it.

    Attributes:
        kind: `training`, `tuning`, `transform` or `processing`.
        described: the answer of Describe...Job.
    """

    name: str
    kind: str
    described: dict[str, Any]

    @property
    def status(self) -> str:
        return str(self.described[STATUS[self.kind]])

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def doing(self) -> str:
        """The state in a few words."""
        if self.kind == TUNING:
            counted = self.described.get("TrainingJobStatusCounters", {})
            return (
                f"{self.status}: {counted.get('Completed', 0)} trials completed, "
                f"{counted.get('InProgress', 0)} running, {counted.get('NonRetryableError', 0)} failed"
            )
        secondary = self.described.get("SecondaryStatus")
        return self.status if secondary in (None, self.status) else f"{self.status}, {secondary}"

    @property
    def reason(self) -> str:
        """Why it failed, or what its program said at its end, or an empty text."""
        said = self.described.get("FailureReason") or self.described.get("ExitMessage") or ""
        return readable_reason(str(said))


def readable_reason(text: str) -> str:
    """The sentence of ours in a FailureReason, where there is one; else all of it, less the exit code."""
    text = re.sub(r",? exit code: \d+$", "", text.strip())
    found = re.search(r"\berror: (.+)", text, re.DOTALL)
    return found.group(1) if found else text


def look_up(aws: Aws, name: str, kinds: tuple[str, ...] = LEARNING) -> JobState | None:
    """Describe a job of one of these kinds; None when there is no such job.

    Raises:
        CloudError: AWS refuses the question.
    """
    from botocore.exceptions import ClientError

    asked: dict[str, Callable[[], dict[str, Any]]] = {
        TRAINING: lambda: aws.sagemaker.describe_training_job(TrainingJobName=name),
        TUNING: lambda: aws.sagemaker.describe_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name
        ),
        TRANSFORM: lambda: aws.sagemaker.describe_transform_job(TransformJobName=name),
        PROCESSING: lambda: aws.sagemaker.describe_processing_job(ProcessingJobName=name),
    }
    for kind in kinds:
        with explained(f"looking up {name}"):
            try:
                return JobState(name, kind, asked[kind]())
            except ClientError as error:
                if not _is_absent(error):
                    raise
    return None


def find_job(aws: Aws, name: str, kinds: tuple[str, ...] = LEARNING) -> JobState:
    """Describe a job of one of these kinds.

    Raises:
        CloudError: there is none of that name in this region.
    """
    found = look_up(aws, name, kinds)
    if found is None:
        *others, last = kinds
        kind = f"{', '.join(others)} or {last}" if others else last
        raise CloudError(
            f"job={name}: there is no {kind} job of that name in {aws.sagemaker.meta.region_name}. "
            "Type job=NAME as it was printed when the job started, and cloud.region=REGION of where that was."
        )
    return found


def _is_absent(error: Any) -> bool:
    message = str(error).lower()
    return error_code(error) in ("ResourceNotFound", "ValidationException") and (
        "not found" in message or "find" in message or "pattern" in message or "32" in message
    )


@dataclass
class LogTail:
    """The log of one training or transform job, read as it grows."""

    aws: Aws
    job: str
    group: str = LOG_GROUPS[TRAINING]
    _tokens: dict[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """What has come since the last call; a job that has not started yet has no log."""
        for stream in self._streams():
            while True:
                known = self._tokens.get(stream)
                answer = self.aws.logs.get_log_events(
                    logGroupName=self.group,
                    logStreamName=stream,
                    startFromHead=True,
                    **({"nextToken": known} if known else {}),
                )
                for event in answer["events"]:
                    yield event["message"]
                self._tokens[stream] = answer["nextForwardToken"]
                if not answer["events"] or answer["nextForwardToken"] == known:
                    break

    def _streams(self) -> list[str]:
        from botocore.exceptions import ClientError

        try:
            found = self.aws.logs.describe_log_streams(
                logGroupName=self.group, logStreamNamePrefix=f"{self.job}/"
            )
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException":
                return []
            raise
        return [stream["logStreamName"] for stream in found["logStreams"]]


def follow(aws: Aws, name: str, seconds: float, kinds: tuple[str, ...] = LEARNING) -> JobState:
    """Print a training's log, and what any job is doing, until it ends.

    Args:
        seconds: between two looks.

    Raises:
        CloudError: AWS refuses the question.
        KeyboardInterrupt: on Ctrl-C; the job goes on.
    """
    tail, said = LogTail(aws, name), ""
    while True:
        state = find_job(aws, name, kinds)
        kinds = (state.kind,)
        if state.kind == TRAINING:
            with explained(f"reading the log of {name}"):
                for line in tail.lines():
                    print(line, flush=True)
        if state.doing != said:
            said = state.doing
            print(f"{name}: {said}", flush=True)
        if state.ended:
            return state
        time.sleep(seconds)

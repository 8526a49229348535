"""The verb `transform`: photos through SageMaker Batch Transform, and back as one table."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sagelight.cloud.bucket import ensure_bucket
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.command import SECONDS_BETWEEN_LOOKS, backend
from sagelight.cloud.follow import LOG_GROUPS, TRANSFORM, JobState, LogTail, follow, look_up
from sagelight.cloud.models import send_model
from sagelight.cloud.show import listed_problems
from sagelight.cloud.starting import going_on, starting
from sagelight.cloud.transform_manifest import S3
from sagelight.cloud.transform_plan import TransformPlan, plan_transform, settled_plan
from sagelight.cloud.transform_results import collect
from sagelight.cloud.transform_settings import TransformSettings
from sagelight.cloud.transform_show import described, requests_json
from sagelight.cloud.transform_tables import bring_up, labels_of, write_results
from sagelight.cloud.upload import upload_bytes, upload_cargo
from sagelight.config.setting import AUTO
from sagelight.errors import CloudError, DataError, Interrupted
from sagelight.serving.table import report_unreadable

# Of a failed job's log; the cause is at the end of it.
LAST_LINES = 20


def run_transform(settings: TransformSettings) -> None:
    """Label every photo of `settings.input` with a batch transform job; with `dry_run=true` only say how.

    Raises:
        CloudError: everything that is wrong with the job, in one list; what AWS refuses; or the job failed.
        Interrupted: on Ctrl-C while the job runs; it goes on.
    """
    plan = plan_transform(settings)
    if settings.dry_run or plan.problems:
        print(described(plan))
    if settings.dry_run:
        print(requests_json(plan))
        for note in (*plan.unset, *plan.asked):
            print(f"note: {note}")
    _refuse(plan)
    if settings.dry_run:
        return
    with backend(settings.cloud) as cloud:
        rehearsed = cloud is not settings.cloud
        aws = Aws(cloud, plan.model.place.region)
        plan = settled_plan(aws, plan)
        print(described(plan))
        _refuse(plan)
        _send(aws, plan)
        if not settings.cloud.follow:
            print(f"started {plan.name}. {_come_back(plan.name)}")
            return
        _close(aws, plan, _followed(aws, plan, rehearsed))


def _refuse(plan: TransformPlan) -> None:
    if plan.problems:
        raise CloudError(listed_problems(plan.problems))
    if plan.unset and not plan.settings.dry_run:
        raise CloudError(plan.unset[0])


def _send(aws: Aws, plan: TransformPlan) -> None:
    """Start the job, unless it is there already."""
    known = look_up(aws, plan.name, (TRANSFORM,))
    if known is not None:
        if known.status == "Stopped":
            raise CloudError(f"{plan.name} is there already and stopped. {_again(plan)}")
        print(f"{plan.name} is there already: {known.doing}")
        return
    settings, place = plan.settings, plan.model.place
    cloud = settings.cloud
    send_model(aws, plan.model, cloud)
    ensure_bucket(aws, place.bucket, cloud.prefix, place.region, ours=cloud.bucket == AUTO)
    if plan.inputs.cargo is not None:
        upload_cargo(aws, place.bucket, cloud.prefix, plan.inputs.cargo)
    if plan.manifest is not None:
        text, uri = plan.manifest
        upload_bytes(aws, place.bucket, uri.removeprefix(f"{S3}{place.bucket}/"), text.encode())
    with starting(aws, plan.name, TRANSFORM):
        aws.sagemaker.create_transform_job(**plan.body)


def _followed(aws: Aws, plan: TransformPlan, rehearsed: bool) -> JobState:
    cloud = plan.settings.cloud
    paid = cloud.name == "aws"
    try:
        with going_on(plan.name, paid, _come_back(plan.name)):
            return follow(aws, plan.name, SECONDS_BETWEEN_LOOKS[cloud.name], (TRANSFORM,))
    except KeyboardInterrupt as stop:
        if rehearsed:
            raise Interrupted("the rehearsal is over, and its job with it.") from stop
        raise Interrupted(
            f"{plan.name} goes on{', and is paid' * paid}. {_come_back(plan.name)}"
        ) from stop


def _close(aws: Aws, plan: TransformPlan, state: JobState) -> None:
    """Leave the table, the errors and the figures; a failed job leaves those that it has."""
    if state.status == "Failed":
        _print_end_of_log(aws, plan.name)
    if state.status == "Stopped":
        raise CloudError(f"{plan.name} was stopped, and left no answers. {_again(plan)}")
    labels = labels_of(aws, plan)
    answers = collect(aws, state, plan.inputs, labels)
    good = sum(answer.probabilities is not None for answer in answers)
    failed = f"{plan.name} failed: {state.reason.rstrip('.')}. " if state.status == "Failed" else ""
    if failed and not good:
        raise CloudError(f"{failed}No photo has an answer. {_again(plan)}")
    if not good:
        report_unreadable(None, answers)
        raise DataError(
            f"none of the {len(answers)} photos of input={plan.settings.input} could be read: "
            f"{answers[0].file}: {answers[0].reason}."
        )
    if plan.folder.startswith(S3):
        with tempfile.TemporaryDirectory() as scratch:
            write_results(plan, answers, labels, Path(scratch))
            bring_up(aws, Path(scratch), plan.folder)
    else:
        write_results(plan, answers, labels, Path(plan.folder))
    print(f"table   {plan.table}: {good} of {len(answers)} photos")
    if failed:
        raise CloudError(f"{failed}{len(answers) - good} photos have no answer. {_again(plan)}")


def _print_end_of_log(aws: Aws, name: str) -> None:
    with explained(f"reading the log of {name}"):
        for line in [*LogTail(aws, name, LOG_GROUPS[TRANSFORM]).lines()][-LAST_LINES:]:
            print(line)


def _again(plan: TransformPlan) -> str:
    return f"Type attempt={plan.settings.attempt + 1} to start it again; logs job={plan.name} has the whole log."


def _come_back(name: str) -> str:
    return (
        f"Repeat the same command to follow it and to get its table, or type python launch/sagemaker.py "
        f"status job={name} (logs, stop)."
    )

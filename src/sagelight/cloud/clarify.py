"""The verb `explain` at SageMaker: plan, show, send, follow, fetch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from sagelight.archives import inside
from sagelight.cloud.bucket import ensure_bucket
from sagelight.cloud.clarify_plan import ClarifyPlan, plan_clarify, settled_plan
from sagelight.cloud.clarify_request import config_text, config_uri, results_uri
from sagelight.cloud.clarify_settings import ClarifySettings
from sagelight.cloud.clarify_show import described, requests_json
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.command import SECONDS_BETWEEN_LOOKS, backend
from sagelight.cloud.follow import PROCESSING, JobState, follow, look_up
from sagelight.cloud.models import S3, send_model
from sagelight.cloud.show import listed_problems
from sagelight.cloud.starting import going_on, starting
from sagelight.cloud.upload import upload_bytes, upload_cargo
from sagelight.config.setting import AUTO
from sagelight.errors import CloudError, Interrupted
from sagelight.files import scratch_folder
from sagelight.progress import progress


def run_clarify(settings: ClarifySettings) -> None:
    """Explain photos with a Clarify job; with `dry_run=true` only say how.

    Raises:
        CloudError: everything that is wrong with the job, in one list; what AWS refuses; or the job failed.
        Interrupted: on Ctrl-C while the job runs; it goes on.
    """
    plan = plan_clarify(settings)
    print(described(plan))
    if settings.dry_run:
        print(requests_json(plan))
        for note in (*plan.assumed, *plan.asked):
            print(f"note: {note}")
    _refuse(plan)
    if settings.dry_run:
        return
    if plan.assumed:
        raise CloudError(plan.assumed[0])
    with backend(settings.cloud) as cloud:
        aws = Aws(cloud, plan.place.region)
        plan = settled_plan(aws, plan)
        _refuse(plan)
        _send(aws, plan)
        if not settings.cloud.follow:
            print(f"started {plan.name}. {_come_back(plan.name)}")
            return
        _close(aws, plan, _followed(aws, plan))


def _refuse(plan: ClarifyPlan) -> None:
    if plan.problems:
        raise CloudError(listed_problems(plan.problems))


def _send(aws: Aws, plan: ClarifyPlan) -> None:
    """Start the job, unless it is there already."""
    known = look_up(aws, plan.name, (PROCESSING,))
    if known is not None:
        if known.status in ("Failed", "Stopped"):
            raise CloudError(f"{plan.name} is there already: {_said(known)} {_again(plan)}")
        print(f"{plan.name} is there already: {known.doing}")
        return
    cloud, bucket = plan.settings.cloud, plan.place.bucket
    ensure_bucket(aws, bucket, cloud.prefix, plan.place.region, ours=cloud.bucket == AUTO)
    if plan.model is not None:
        send_model(aws, plan.model, cloud)
    if plan.photos is not None:
        upload_cargo(aws, bucket, cloud.prefix, plan.photos)
    key = config_uri(plan.body).removeprefix(f"{S3}{bucket}/")
    upload_bytes(aws, bucket, key, config_text(plan.analysis).encode())
    with starting(aws, plan.name, PROCESSING):
        aws.sagemaker.create_processing_job(**plan.body)


def _followed(aws: Aws, plan: ClarifyPlan) -> JobState:
    seconds = SECONDS_BETWEEN_LOOKS[plan.settings.cloud.name]
    try:
        with going_on(plan.name, True, _come_back(plan.name)):
            return follow(aws, plan.name, seconds, (PROCESSING,))
    except KeyboardInterrupt as stop:
        raise Interrupted(f"{plan.name} goes on, and is paid. {_come_back(plan.name)}") from stop


def _close(aws: Aws, plan: ClarifyPlan, state: JobState) -> None:
    if state.status != "Completed":
        raise CloudError(f"{plan.name} has no results: {_said(state)} {_again(plan)}")
    count = fetch_results(aws, results_uri(plan.body), plan.folder)
    print(f"results {plan.folder}: {count} files")


def fetch_results(aws: Aws, uri: str, folder: Path) -> int:
    """Download all that lies below an S3 URI into a new folder, whole or not at all.

    Returns:
        How many files.

    Raises:
        CloudError: nothing lies there, `folder` holds something, or AWS refuses.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise CloudError(
            f"output={folder} holds something, and nothing in it is overwritten. Type output=DIR of a new folder."
        )
    bucket, _, prefix = f"{uri}/".removeprefix(S3).partition("/")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder) as scratch:
        whole = scratch / "results"
        with explained(f"fetching {uri}"):
            keys = list(_keys(aws, bucket, prefix))
            for key in progress(keys, len(keys), "fetching results"):
                path = inside(whole, key.removeprefix(prefix))
                path.parent.mkdir(parents=True, exist_ok=True)
                aws.s3.download_file(bucket, key, str(path))
        if not keys:
            raise CloudError(f"{uri}: nothing lies there.")
        shutil.rmtree(folder, ignore_errors=True)
        whole.rename(folder)
    return len(keys)


def _keys(aws: Aws, bucket: str, prefix: str) -> Iterator[str]:
    for page in aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            name = entry["Key"].removeprefix(prefix)
            if name and not name.endswith("/") and ".." not in name.split("/"):
                yield entry["Key"]


def _said(state: JobState) -> str:
    return f"{state.status}, {(state.reason or 'no reason was given').rstrip('.')}."


def _again(plan: ClarifyPlan) -> str:
    return (
        f"Type attempt={plan.settings.attempt + 1} to start it again, or explain the photos on this machine: "
        "python launch/local.py explain"
    )


def _come_back(name: str) -> str:
    return (
        "Repeat the same command to follow it and to fetch its results, or type python launch/sagemaker.py "
        f"status job={name} (logs, stop)."
    )

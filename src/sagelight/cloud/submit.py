"""Sending a plan: code, photos and weights into the bucket, then the request; or finding the job there already."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

from sagelight.cloud.bucket import ensure_bucket
from sagelight.cloud.client import Aws
from sagelight.cloud.data import Cargo, LocalFile
from sagelight.cloud.follow import TRAINING, TUNING, look_up
from sagelight.cloud.ledger import note_sent
from sagelight.cloud.plan import Plan, torchvision_key
from sagelight.cloud.request import TRAINING_JOB
from sagelight.cloud.starting import starting
from sagelight.cloud.upload import is_there, upload_bytes, upload_cargo
from sagelight.config.setting import AUTO
from sagelight.errors import CloudError


def send(aws: Aws, plan: Plan) -> None:
    """Start the plan's job, unless it is there already.

    Raises:
        CloudError: AWS refuses, or a job of this name failed or was stopped.
    """
    name = plan.request.name
    known = look_up(aws, name)
    if known is not None:
        if known.status in ("Failed", "Stopped"):
            raise CloudError(
                f"{name} is there already and {known.status.lower()}: {known.reason or known.doing}. "
                f"Type cloud.attempt={plan.study.config.cloud.attempt + 1} to start it again."
            )
        print(f"{name} is there already: {known.doing}")
        return
    _upload(aws, plan)
    kind = TRAINING if plan.request.operation == TRAINING_JOB else TUNING
    with starting(aws, name, kind):
        if kind == TRAINING:
            aws.sagemaker.create_training_job(**plan.request.body)
        else:
            aws.sagemaker.create_hyper_parameter_tuning_job(**plan.request.body)


def _upload(aws: Aws, plan: Plan) -> None:
    cloud, bucket = plan.study.config.cloud, plan.place.bucket
    ensure_bucket(aws, bucket, cloud.prefix, plan.place.region, ours=cloud.bucket == AUTO)
    source = urlparse(plan.source_uri).path.lstrip("/")
    upload_bytes(aws, bucket, source, plan.source.archive)
    for cargo in plan.cargo:
        upload_cargo(aws, bucket, cloud.prefix, cargo)
        note_sent(plan.uri(cargo.key), aws.s3.meta.endpoint_url)
    if plan.backbones and not is_there(
        aws, bucket, f"{cloud.prefix}/{torchvision_key(plan.backbones)}/", len(plan.backbones)
    ):
        upload_cargo(aws, bucket, cloud.prefix, _torchvision_cargo(plan))


def _torchvision_cargo(plan: Plan) -> Cargo:
    """torchvision's weights files, found or downloaded by a process that may import torch."""
    command = [sys.executable, "-m", "sagelight.models.default_weights", *plan.backbones]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CloudError(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
    paths = {name: Path(path) for name, path in json.loads(done.stdout).items()}
    files = tuple(LocalFile(f"{n}.pth", p, p.stat().st_size) for n, p in paths.items())
    return Cargo("weights", files, "", torchvision_key(plan.backbones))

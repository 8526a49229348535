from __future__ import annotations

import io
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sagelight.rehearsal.server import ACCOUNT, REGION, Rehearsal, rehearsal

BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"


@dataclass
class Stage:
    """A rehearsal with a bucket, and the clients of a person who uses it."""

    running: Rehearsal
    sagemaker: Any
    s3: Any
    logs: Any

    def request(self, name: str, program: str, **more: Any) -> dict[str, Any]:
        """A CreateTrainingJob request whose source is one small program."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            entry = tarfile.TarInfo("job.py")
            entry.size = len(program.encode())
            tar.addfile(entry, io.BytesIO(program.encode()))
        key = f"source/{name}.tar.gz"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=packed.getvalue())
        return {
            "TrainingJobName": name,
            "AlgorithmSpecification": {
                "TrainingImage": "111122223333.dkr.ecr.us-east-1.amazonaws.com/own:1",
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "objective", "Regex": r"objective=([0-9.]+)"}],
            },
            "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/rehearsal",
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/jobs"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.xlarge",
                "InstanceCount": 1,
                "VolumeSizeInGB": 1,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            "HyperParameters": {
                "sagemaker_program": "job.py",
                "sagemaker_submit_directory": f"s3://{BUCKET}/{key}",
                "sagemaker_region": REGION,
            },
            **more,
        }

    def run(self, name: str, program: str, **more: Any) -> dict[str, Any]:
        """Create a training job and wait for its end."""
        self.sagemaker.create_training_job(**self.request(name, program, **more))
        return self.ended(lambda: self.sagemaker.describe_training_job(TrainingJobName=name))

    def ended(self, describe: Callable[[], dict[str, Any]], seconds: float = 90) -> dict[str, Any]:
        """Wait until a job has ended; gives its last description."""
        key = "TrainingJobStatus"
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = describe()
            status = found.get(key) or found["HyperParameterTuningJobStatus"]
            if status in ("Completed", "Failed", "Stopped"):
                return found
            time.sleep(0.1)
        raise AssertionError(f"not ended after {seconds} s: {found}")

    def until(self, name: str, line: str, seconds: float = 60) -> None:
        """Wait until a job has printed a line."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if line in self.log(name):
                return
            time.sleep(0.1)
        raise AssertionError(f"{line!r} never came: {self.log(name)}")

    def log(self, name: str) -> list[str]:
        """What a job has printed so far."""
        group = "/aws/sagemaker/TrainingJobs"
        try:
            streams = self.logs.describe_log_streams(
                logGroupName=group, logStreamNamePrefix=f"{name}/"
            )
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [
            event["message"]
            for stream in streams["logStreams"]
            for event in self.logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]

    def unpacked(self, uri: str) -> dict[str, bytes]:
        """The files of an archive in the rehearsal's S3."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        body = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            return {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    import boto3

    with rehearsal() as running:
        session = boto3.session.Session("k", "s", region_name=REGION)
        clients = [
            session.client(name, endpoint_url=running.url) for name in ("sagemaker", "s3", "logs")
        ]
        made = Stage(running, *clients)
        made.s3.create_bucket(Bucket=BUCKET)
        yield made


@pytest.fixture
def _switching_often() -> Iterator[None]:
    """Threads meet in the middle of whatever they do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)

"""Batch transform in the rehearsal: its operations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from sagelight.rehearsal.hosting import Hosting
from sagelight.rehearsal.refusal import Body, Refusal
from sagelight.rehearsal.transform_job import ENDED, TransformJob

MOST_PAYLOAD_MB = 100


class Transforming:
    """All transform jobs of one rehearsal."""

    def __init__(
        self,
        region: str,
        account: str,
        clients: Any,
        environment: Mapping[str, str],
        hosting: Hosting,
    ) -> None:
        self.jobs: dict[str, TransformJob] = {}
        self._arn = f"arn:aws:sagemaker:{region}:{account}:transform-job"
        self._clients = clients
        self._environment = environment
        self._hosting = hosting
        self._lock = threading.Lock()

    def operations(self) -> dict[str, Callable[[Body], Body]]:
        """The API's operations on transform jobs."""
        return {
            "CreateTransformJob": self._create,
            "DescribeTransformJob": lambda body: self._job(body).describe(),
            "ListTransformJobs": self._list,
            "StopTransformJob": self._stop,
        }

    def close(self) -> None:
        """Stop whatever runs, and wait for it."""
        for job in self.jobs.values():
            job.stop()
        for job in self.jobs.values():
            job.thread.join()

    def _create(self, body: Body) -> Body:
        name = body["TransformJobName"]
        model = self._hosting.model(body["ModelName"])
        for problem in _refused(body):
            raise Refusal("ValidationException", problem)
        job = TransformJob(body, f"{self._arn}/{name}", model, self._clients, self._environment)
        with self._lock:
            if name in self.jobs:
                raise Refusal(
                    "ResourceInUse",
                    f"Job name must be unique within an AWS account and region, and a job with this name already "
                    f"exists ({job.arn})",
                )
            self.jobs[name] = job
        job.thread.start()
        return {"TransformJobArn": job.arn}

    def _list(self, body: Body) -> Body:
        part, status = body.get("NameContains", ""), body.get("StatusEquals")
        found = [
            job.summary()
            for job in reversed(self.jobs.values())
            if part in job.name and status in (None, job.status)
        ]
        return {"TransformJobSummaries": found}

    def _stop(self, body: Body) -> Body:
        job = self._job(body)
        if job.status in ENDED:
            raise Refusal(
                "ValidationException",
                f"The request was rejected because the transform job is in status {job.status}.",
            )
        job.stop()
        return {}

    def _job(self, body: Body) -> TransformJob:
        name = body["TransformJobName"]
        if name not in self.jobs:
            raise Refusal("ResourceNotFound", f"Could not find transform job '{self._arn}/{name}'.")
        return self.jobs[name]


def _refused(body: Body) -> list[str]:
    """What the service documents in prose and refuses."""
    places, payload = body.get("MaxConcurrentTransforms", 0), body.get("MaxPayloadInMB", 0)
    found = []
    if payload > MOST_PAYLOAD_MB or places * payload > MOST_PAYLOAD_MB:
        found.append(
            "The value of MaxPayloadInMB, and of MaxConcurrentTransforms * MaxPayloadInMB, cannot exceed 100 MB"
        )
    kind = body["TransformInput"]["DataSource"]["S3DataSource"]["S3DataType"]
    if kind not in ("S3Prefix", "ManifestFile"):
        found.append(f"S3DataType {kind} is not rehearsed")
    return found

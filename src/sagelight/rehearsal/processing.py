"""Processing jobs in the rehearsal: taken as the service takes them, and not run, which their state says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlparse

from sagelight.rehearsal.refusal import Body, Refusal

# Of the service's states for a job, Stopped is the one that claims no verdict.
NOT_RUN = (
    "not run: a rehearsal does not have AWS's Clarify image; `python launch/local.py explain` "
    "explains the same photos with the same bundle"
)


class Processing:
    """All processing jobs of one rehearsal.

    What Clarify would fail at before it starts, fails here, too: inputs that are not there, an analysis that is no
    JSON, a model or an endpoint that does not exist.
    """

    def __init__(
        self,
        region: str,
        account: str,
        clients: Any,
        models: Mapping[str, Body],
        endpoints: Mapping[str, Any],
    ) -> None:
        self.jobs: dict[str, Body] = {}
        self._arn = f"arn:aws:sagemaker:{region}:{account}:processing-job"
        self._s3 = clients.s3
        self._models, self._endpoints = models, endpoints

    def operations(self) -> dict[str, Callable[[Body], Body]]:
        """The API's operations on processing jobs."""
        return {
            "CreateProcessingJob": self._create,
            "DescribeProcessingJob": self._describe,
            "StopProcessingJob": self._stop,
        }

    def _create(self, body: Body) -> Body:
        name = body["ProcessingJobName"]
        if name in self.jobs:
            raise Refusal("ResourceInUse", f"Processing job names must be unique: {name} exists")
        now = time.time()
        failure = next(self._failures(body), None)
        self.jobs[name] = {
            **body,
            "ProcessingJobArn": f"{self._arn}/{name}",
            "CreationTime": now,
            "ProcessingEndTime": now,
            "LastModifiedTime": now,
            "ProcessingJobStatus": "Failed" if failure else "Stopped",
            **({"FailureReason": failure} if failure else {"ExitMessage": NOT_RUN}),
        }
        return {"ProcessingJobArn": f"{self._arn}/{name}"}

    def _describe(self, body: Body) -> Body:
        name = body["ProcessingJobName"]
        job = self.jobs.get(name)
        if job is None:
            raise Refusal("ValidationException", f"Could not find requested job with name: {name}")
        # The service does not repeat tags here.
        return {key: value for key, value in job.items() if key != "Tags"}

    def _stop(self, body: Body) -> Body:
        self._describe(body)  # It has ended before it could be stopped.
        return {}

    def _failures(self, body: Body) -> Iterator[str]:
        for each in body.get("ProcessingInputs", ()):
            uri = each["S3Input"]["S3Uri"]
            if not self._listed(uri):
                yield f"ClientError: Data download failed: no object lies under {uri}"
            elif each["InputName"] == "analysis_config":
                yield from self._misconfigured(uri)

    def _misconfigured(self, uri: str) -> Iterator[str]:
        place = urlparse(uri)
        found = self._s3.get_object(Bucket=place.netloc, Key=place.path.lstrip("/"))
        try:
            predictor = json.loads(found["Body"].read())["predictor"]
        except (ValueError, KeyError, TypeError) as error:
            yield f"ClientError: {uri} is no analysis configuration: {error}"
            return
        for key, known in (("model_name", self._models), ("endpoint_name", self._endpoints)):
            if key in predictor and predictor[key] not in known:
                yield f"ClientError: predictor.{key}: {predictor[key]} does not exist"

    def _listed(self, uri: str) -> bool:
        place = urlparse(uri)
        found = self._s3.list_objects_v2(
            Bucket=place.netloc, Prefix=place.path.lstrip("/"), MaxKeys=1
        )
        return bool(found.get("KeyCount"))

"""One transform job of the rehearsal: every object of its input is really sent to servers of its model.

AWS's documents leave some of it open. Here an object is sent again after no answer, 429 or a 5xx, and not after another
4xx, which would be the same again; and answers appear when all objects are through, as those of a stopped job never do.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sagelight.rehearsal.logs import LogStream
from sagelight.rehearsal.model_server import DownloadError, ModelServer, Reply
from sagelight.rehearsal.transform_records import Record, place_of, records_of

GROUP = "/aws/sagemaker/TransformJobs"
ENDED = ("Completed", "Failed", "Stopped")
# The service's own defaults, where neither the request nor /execution-parameters says otherwise.
DEFAULTS = {"MaxConcurrentTransforms": 1, "MaxPayloadInMB": 6, "BatchStrategy": "MULTI_RECORD"}
STRATEGIES = {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}
TIMEOUT_SECONDS, RETRIES = 600, 3
MB = 2**20
START_SECONDS = 120.0
PAUSE_SECONDS = 0.2
LONGEST_MESSAGE = 1000
NOTHING_THERE = (
    'ClientError: No S3 objects found under S3 URL "{}" given in input data source. Please ensure that the bucket '
    "exists in the selected region, that objects exist under that S3 prefix, and that the role may list them."
)
SILENT = (
    "AlgorithmError: Model container failed to respond to ping. Please ensure /ping endpoint is implemented and "
    "responds with an HTTP 200 status code"
)


class TransformJob:
    """One job, from InProgress to Completed, Failed or Stopped."""

    def __init__(
        self,
        request: Mapping[str, Any],
        arn: str,
        model: Mapping[str, Any],
        clients: Any,
        environment: Mapping[str, str],
    ) -> None:
        self.request = request
        self.name = str(request["TransformJobName"])
        self.arn = arn
        self.status = "InProgress"
        self.reason: str | None = None
        self.created = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self._container = model["PrimaryContainer"]
        self._clients = clients
        self._environment = environment
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def stop(self) -> None:
        """StopTransformJob: nothing more is sent, and no answer is kept."""
        if self.status == "InProgress":
            self.status = "Stopping"
        self._stop.set()

    def describe(self) -> dict[str, Any]:
        """DescribeTransformJob."""
        shown = {key: value for key, value in self.request.items() if key != "Tags"}
        return _present(
            {
                **shown,
                "TransformJobArn": self.arn,
                "TransformJobStatus": self.status,
                "FailureReason": self.reason,
                "CreationTime": self.created,
                "TransformStartTime": self.started,
                "TransformEndTime": self.ended,
            }
        )

    def summary(self) -> dict[str, Any]:
        """An entry of ListTransformJobs."""
        return _present(
            {
                "TransformJobName": self.name,
                "TransformJobArn": self.arn,
                "TransformJobStatus": self.status,
                "CreationTime": self.created,
                "LastModifiedTime": self.ended or time.time(),
                "TransformEndTime": self.ended,
                "FailureReason": self.reason,
            }
        )

    def _run(self) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="sagelight-rehearsal-") as scratch:
                self.reason = self._transform(Path(scratch))
        except Exception as error:  # Whatever breaks, a job ends in a state that a person can read.
            self.reason = f"InternalServerError: {error or type(error).__name__}"
        self.ended = time.time()
        if self._stop.is_set():
            self.status, self.reason = "Stopped", None
        else:
            self.status = "Failed" if self.reason else "Completed"

    def _transform(self, scratch: Path) -> str | None:
        """Do the job; gives why it failed."""
        uri, records = records_of(self.request, self._clients.s3)
        if not records:
            return NOTHING_THERE.format(uri)
        with ExitStack() as machines:
            log = self._log(machines, "data-log")
            try:
                servers = [self._server(machines, scratch / str(n), n) for n in range(self._count)]
            except DownloadError as error:
                return f"ClientError: {error}"
            for server in servers:
                if not server.wait_ready(START_SECONDS, self._stop):
                    return SILENT
            self.started = time.time()
            limits = self._limits(servers[0])
            log.write(f"[sagemaker logs]: {', '.join(f'{k}={v}' for k, v in limits.items())}")
            answers = scratch / "answers"
            answers.mkdir()
            failures = self._send_all(records, servers, limits, log, answers)
            if not self._stop.is_set():
                self._upload(records, answers)
        return f"{failures[0]}: See job logs for more information" if failures else None

    @property
    def _count(self) -> int:
        return int(self.request["TransformResources"]["InstanceCount"])

    def _server(self, machines: ExitStack, scratch: Path, number: int) -> ModelServer:
        scratch.mkdir()
        log = self._log(machines, f"{number}")
        server = ModelServer(
            self._container["ModelDataUrl"],
            {
                **self._container.get("Environment", {}),
                **self.request.get("Environment", {}),
                **_populated(self.request),
            },
            scratch,
            self._clients.s3,
            self._environment,
            log.write,
        )
        machines.callback(server.close)
        return server

    def _log(self, machines: ExitStack, kind: str) -> LogStream:
        """A stream named as the service names those of transform jobs."""
        machine = f"{self.name}/i-{uuid.uuid4().hex[:17]}"
        stream = f"{machine}/data-log" if kind == "data-log" else machine
        log = LogStream(self._clients.logs, self.name, group=GROUP, name=stream)
        machines.callback(log.close)
        return log

    def _limits(self, server: ModelServer) -> dict[str, Any]:
        """What the request says, else what the container's /execution-parameters say, else the defaults."""
        said: dict[str, Any] = {}
        try:
            reply = server.ask("GET", "/execution-parameters")
            said = json.loads(reply.body) if reply.status == 200 else {}
        except (OSError, http.client.HTTPException, ValueError):
            said = {}
        asked = {
            "MaxConcurrentTransforms": self.request.get("MaxConcurrentTransforms"),
            "MaxPayloadInMB": self.request.get("MaxPayloadInMB"),
            "BatchStrategy": STRATEGIES.get(self.request.get("BatchStrategy", "")),
        }
        return {name: asked[name] or said.get(name) or usual for name, usual in DEFAULTS.items()}

    def _send_all(
        self,
        records: Sequence[Record],
        servers: Sequence[ModelServer],
        limits: Mapping[str, Any],
        log: LogStream,
        answers: Path,
    ) -> list[str]:
        """Send every object; gives whose fault each failure is."""
        shares = [list(enumerate(records))[n :: len(servers)] for n in range(len(servers))]
        pools = [ThreadPoolExecutor(limits["MaxConcurrentTransforms"]) for _ in servers]
        most = limits["MaxPayloadInMB"] * MB

        def send(server: ModelServer, number: int, record: Record) -> str | None:
            if self._stop.is_set():
                return None
            return self._send(server, record, most, log, answers / str(number))

        with ExitStack() as closing:
            for pool in pools:
                closing.enter_context(pool)
            waiting = [
                pool.submit(send, server, number, record)
                for pool, server, share in zip(pools, servers, shares, strict=True)
                for number, record in share
            ]
            return [failure for future in waiting if (failure := future.result())]

    def _send(
        self, server: ModelServer, record: Record, most: int, log: LogStream, answer: Path
    ) -> str | None:
        where = f"[sagemaker logs]: {record.bucket}/{record.key}"
        found = self._clients.s3.get_object(Bucket=record.bucket, Key=record.key)
        if found["ContentLength"] > most:
            log.write(f"{where}: ClientError: Too much data for max payload size")
            return "ClientError"
        reply = self._ask(server, found["Body"].read())
        if isinstance(reply, Reply) and reply.status == 200:
            answer.write_bytes(reply.body)
            return None
        if isinstance(reply, str):
            log.write(f"{where}: Unable to get response from algorithm: {reply}")
            return "AlgorithmError"
        log.write(f"{where}: ClientError: {reply.status}")
        log.write(f"{where}: Message: {reply.body.decode('utf-8', 'replace')[:LONGEST_MESSAGE]}")
        return "ClientError" if reply.status < 500 else "AlgorithmError"

    def _ask(self, server: ModelServer, body: bytes) -> Reply | str:
        """The answer to one object, or why there is none after every retry."""
        client = self.request.get("ModelClientConfig", {})
        headers = {"Accept": self.request["TransformOutput"].get("Accept", "application/json")}
        kind = self.request["TransformInput"].get("ContentType")
        if kind:
            headers["Content-Type"] = kind
        reply: Reply | str = ""
        for turn in range(1 + client.get("InvocationsMaxRetries", RETRIES)):
            if turn and self._stop.wait(PAUSE_SECONDS * 2**turn):
                break
            try:
                seconds = client.get("InvocationsTimeoutInSeconds", TIMEOUT_SECONDS)
                reply = server.ask("POST", "/invocations", body, headers, seconds)
            except (OSError, http.client.HTTPException) as error:
                reply = str(error) or type(error).__name__
                continue
            if reply.status < 500 and reply.status != 429:
                break
        return reply

    def _upload(self, records: Sequence[Record], answers: Path) -> None:
        bucket, key = place_of(self.request["TransformOutput"]["S3OutputPath"])
        prefix = f"{key.rstrip('/')}/" if key else ""
        for number, record in enumerate(records):
            path = answers / str(number)
            if path.is_file():
                self._clients.s3.put_object(
                    Bucket=bucket, Key=f"{prefix}{record.name}.out", Body=path.read_bytes()
                )


def _populated(request: Mapping[str, Any]) -> dict[str, str]:
    """What the service tells the container: that this is batch transform, and what the request has set of its limits.

    Source: "Use Your Own Inference Code with Batch Transform" in the SageMaker developer guide.
    """
    told = {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": request.get("MaxPayloadInMB"),
        "SAGEMAKER_BATCH_STRATEGY": STRATEGIES.get(request.get("BatchStrategy", "")),
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": request.get("MaxConcurrentTransforms"),
    }
    return {"SAGEMAKER_BATCH": "true", **{k: str(v) for k, v in told.items() if v}}


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}

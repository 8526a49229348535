"""SageMaker Runtime in the rehearsal: InvokeEndpoint and InvokeEndpointAsync, answered by the real server."""

from __future__ import annotations

import base64
import http.client
import json
import random
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlparse

from sagelight.rehearsal.endpoint import Endpoint, Fleet
from sagelight.rehearsal.endpoints import Endpoints
from sagelight.rehearsal.model_server import INVOCATION_SECONDS, Reply

REALTIME_BYTES, SERVERLESS_BYTES, INLINE_BYTES = 6_291_456, 4_194_304, 128_000
ASYNC_SECONDS = 900.0
# Requests that an asynchronous endpoint works on at once, where its configuration says nothing.
CONCURRENT = 4
_PREFIX = "x-amzn-sagemaker-"
_PASSED_ON = ("content-type", "accept", f"{_PREFIX}custom-attributes", f"{_PREFIX}inference-id")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Failure(Exception):
    """An error of the runtime API: status, code, and the members of its body."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.more = status, code, more

    def answer(self) -> Answer:
        body = json.dumps({"Message": str(self), **self.more}).encode()
        headers = {"Content-Type": "application/json"}
        return Answer(
            self.status, headers | ({"x-amzn-ErrorType": self.code} if self.code else {}), body
        )


class Invocations:
    """What reaches endpoints."""

    def __init__(self, endpoints: Endpoints, s3: Any, region: str, account: str) -> None:
        self._endpoints, self._s3 = endpoints, s3
        self._region, self._account = region, account
        self._pool = ThreadPoolExecutor(CONCURRENT, "async-inference")

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer POST `/endpoints/NAME/invocations` or `/endpoints/NAME/async-invocations`.

        Args:
            headers: by their names in lower case.
        """
        try:
            _, _, name, what = path.split("/")
            endpoint = self._endpoint(name)
            if what == "invocations":
                return self._now(endpoint, headers, body)
            if what == "async-invocations":
                return self._later(endpoint, headers, body)
            raise ValueError(path)
        except ValueError:
            return Failure(404, "UnknownOperationException", f"no such path: {path}").answer()
        except Failure as failure:
            return failure.answer()

    def close(self) -> None:
        """Wait for what is being worked on; what waits is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self._endpoints.endpoints.get(name)
        if endpoint is None or endpoint.fleet is None:
            raise Failure(
                400, "ValidationError", f"Endpoint {name} of account {self._account} not found."
            )
        return endpoint

    def _now(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Answer:
        with endpoint.answering() as fleet:
            if fleet is None or "AsyncInferenceConfig" in fleet.config:
                raise Failure(
                    400,
                    "ValidationError",
                    f"Endpoint {endpoint.name} is asynchronous. Use InvokeEndpointAsync instead.",
                )
            self._refuse_too_much(fleet, body)
            reply = self._ask(endpoint, fleet, headers, body, INVOCATION_SECONDS)
            self._capture(endpoint, fleet, headers, body, reply)
        shown = {
            "Content-Type": reply.headers.get("content-type", ""),
            "x-Amzn-Invoked-Production-Variant": fleet.variant["VariantName"],
        }
        attributes = reply.headers.get(f"{_PREFIX}custom-attributes")
        if attributes:
            shown["X-Amzn-SageMaker-Custom-Attributes"] = attributes
        return Answer(200, shown, reply.body)

    def _later(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Answer:
        with endpoint.answering() as fleet:
            config = fleet.config.get("AsyncInferenceConfig") if fleet is not None else None
        if config is None:
            raise Failure(
                400,
                "ValidationError",
                f"Endpoint {endpoint.name} is not asynchronous. Use InvokeEndpoint instead.",
            )
        location = headers.get(f"{_PREFIX}inputlocation")
        if bool(location) == bool(body) or len(body) > INLINE_BYTES:
            raise Failure(
                400,
                "ValidationError",
                f"Exactly one of InputLocation and Body, of at most {INLINE_BYTES} bytes, is needed.",
            )
        number = str(uuid.uuid4())
        output = f"{config['OutputConfig']['S3OutputPath'].rstrip('/')}/{number}.out"
        failures = config["OutputConfig"].get("S3FailurePath")
        failure = f"{failures.rstrip('/')}/{number}-error.out" if failures else ""
        self._pool.submit(self._work, endpoint, dict(headers), location, body, output, failure)
        shown = {
            "Content-Type": "application/json",
            "X-Amzn-SageMaker-OutputLocation": output,
            **({"X-Amzn-SageMaker-FailureLocation": failure} if failure else {}),
        }
        asked = headers.get(f"{_PREFIX}inference-id", number)
        return Answer(202, shown, json.dumps({"InferenceId": asked}).encode())

    def _work(
        self,
        endpoint: Endpoint,
        headers: dict[str, str],
        location: str | None,
        body: bytes,
        output: str,
        failure: str,
    ) -> None:
        """One asynchronous request, from S3 to S3."""
        seconds = float(headers.get(f"{_PREFIX}invocationtimeoutseconds", ASYNC_SECONDS))
        typed = {name: headers.get(f"{_PREFIX}{name}", "") for name in ("content-type", "accept")}
        typed = {name: value for name, value in typed.items() if value}
        try:
            if location:
                body = self._read(location)
            with endpoint.answering() as fleet:
                if fleet is None:
                    raise Failure(400, "ValidationError", f"Endpoint {endpoint.name} is gone.")
                reply = self._ask(endpoint, fleet, {**headers, **typed}, body, seconds)
            kind = reply.headers.get("content-type", "")
            self._keep(endpoint, output, reply.body, kind)
        except Failure as error:
            if failure:
                self._keep(endpoint, failure, str(error).encode(), "text/plain")

    def _ask(
        self,
        endpoint: Endpoint,
        fleet: Fleet,
        headers: Mapping[str, str],
        body: bytes,
        seconds: float,
    ) -> Reply:
        passed = {name: headers[name] for name in _PASSED_ON if headers.get(name)}
        try:
            reply = fleet.server.ask("POST", "/invocations", body, passed, seconds)
        except TimeoutError as error:
            raise self._model_error(
                endpoint,
                0,
                "Your invocation timed out while waiting for a response from container primary.",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Failure(503, "ServiceUnavailable", f"The container is gone ({error}).") from error
        if reply.status >= 400:
            side = "client" if reply.status < 500 else "server"
            said = reply.body.decode("utf-8", errors="replace")
            raise self._model_error(
                endpoint,
                reply.status,
                f'Received {side} error ({reply.status}) from primary with message "{said}".',
                said,
            )
        return reply

    def _model_error(
        self, endpoint: Endpoint, status: int, message: str, said: str = ""
    ) -> Failure:
        group = f"/aws/sagemaker/Endpoints/{endpoint.name}"
        console = (
            f"https://{self._region}.console.aws.amazon.com/cloudwatch/home?region={self._region}"
        )
        return Failure(
            424,
            "ModelError",
            f"{message} See {console}#logEventViewer:group={group} in account {self._account} for more information.",
            OriginalStatusCode=status,
            OriginalMessage=said,
            LogStreamArn=f"arn:aws:logs:{self._region}:{self._account}:log-group:{group}",
        )

    def _refuse_too_much(self, fleet: Fleet, body: bytes) -> None:
        serverless = fleet.variant.get("ServerlessConfig")
        most = SERVERLESS_BYTES if serverless else REALTIME_BYTES
        if len(body) > most:
            # The service's gateway, not its API: there is no code but the status.
            raise Failure(413, "", f"HTTP content length exceeded {most} bytes.")
        if serverless and fleet.busy > serverless["MaxConcurrency"]:
            raise Failure(429, "ThrottlingException", "Rate exceeded")

    def _capture(
        self,
        endpoint: Endpoint,
        fleet: Fleet,
        headers: Mapping[str, str],
        body: bytes,
        reply: Reply,
    ) -> None:
        """Keep a share of requests and answers, as the service's jsonl files."""
        capture = fleet.config.get("DataCaptureConfig")
        if not capture or random.uniform(0, 100) >= capture["InitialSamplingPercentage"]:
            return
        now, number = datetime.now(UTC), str(uuid.uuid4())
        modes = {option["CaptureMode"] for option in capture["CaptureOptions"]}
        data: dict[str, Any] = {}
        if modes & {"Input", "InputAndOutput"}:
            data["endpointInput"] = _observed("INPUT", headers.get("content-type", ""), body)
        if modes & {"Output", "InputAndOutput"}:
            kind = reply.headers.get("content-type", "")
            data["endpointOutput"] = _observed("OUTPUT", kind, reply.body)
        meta = {"eventId": number, "inferenceTime": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
        line = json.dumps({"captureData": data, "eventMetadata": meta, "eventVersion": "0"})
        folder = f"{endpoint.name}/{fleet.variant['VariantName']}/{now:%Y/%m/%d/%H}"
        uri = f"{capture['DestinationS3Uri'].rstrip('/')}/{folder}/{now:%M-%S-%f}-{number}.jsonl"
        self._keep(endpoint, uri, line.encode() + b"\n", "application/json")

    def _read(self, uri: str) -> bytes:
        from botocore.exceptions import ClientError

        place = urlparse(uri)
        try:
            found = self._s3.get_object(Bucket=place.netloc, Key=place.path.lstrip("/"))
            content: bytes = found["Body"].read()
            return content
        except ClientError as error:
            raise Failure(400, "ValidationError", f"Could not read {uri}: {error}") from error

    def _keep(self, endpoint: Endpoint, uri: str, content: bytes, kind: str) -> None:
        """Write to S3; where that fails, the endpoint's log says so, as nobody waits for it."""
        from botocore.exceptions import ClientError

        place = urlparse(uri)
        try:
            self._s3.put_object(
                Bucket=place.netloc, Key=place.path.lstrip("/"), Body=content, ContentType=kind
            )
        except ClientError as error:
            fleet = endpoint.fleet
            if fleet is not None:
                fleet.log.write(f"{uri} could not be written: {error}")


def _observed(mode: str, kind: str, content: bytes) -> dict[str, str]:
    readable = kind.startswith(("application/json", "text/"))
    return {
        "observedContentType": kind,
        "mode": mode,
        "data": content.decode() if readable else base64.b64encode(content).decode(),
        "encoding": ("JSON" if "json" in kind else "CSV") if readable else "BASE64",
    }

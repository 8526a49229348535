"""Endpoints of the rehearsal: configurations, states, and the containers that answer.

What differs from the service: one container stands for all machines of a variant, autoscaling is noted and not done,
and a container that ends while it starts fails its endpoint at once instead of being started again.
"""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagelight.rehearsal.logs import LogStream
from sagelight.rehearsal.model_server import DownloadError, ModelServer
from sagelight.rehearsal.refusal import Body, Refusal

GROUP = "/aws/sagemaker/Endpoints/{}"
# The service's own, where a configuration says nothing.
STARTUP_SECONDS = 480.0
CREATING, UPDATING, ROLLING_BACK, IN_SERVICE, DELETING, FAILED = (
    "Creating",
    "Updating",
    "RollingBack",
    "InService",
    "Deleting",
    "Failed",
)
NO_PING = (
    "The primary container for production variant {} did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)
StartModel = Callable[[str, Path, Callable[[str], None]], ModelServer]


class FleetError(Exception):
    """A container that cannot be brought to answer, as the service words it."""


@dataclass
class Fleet:
    """What answers for one configuration."""

    config: Body
    server: ModelServer
    log: LogStream
    folder: tempfile.TemporaryDirectory[str]
    busy: int = 0
    idle: threading.Condition = field(default_factory=threading.Condition)

    @property
    def variant(self) -> Body:
        found: Body = self.config["ProductionVariants"][0]
        return found

    def retire(self) -> None:
        """Let the requests in hand be answered, then end."""
        with self.idle:
            self.idle.wait_for(lambda: self.busy == 0, timeout=60)
        self.server.close()
        self.log.close()
        self.folder.cleanup()


class Endpoint:
    """One endpoint; in service only when its container answers.

    Attributes:
        fleet: what answers now; None until something does.
    """

    def __init__(self, name: str, arn: str, start: StartModel, logs: Any) -> None:
        self.name, self.arn = name, arn
        self.status, self.reason = CREATING, ""
        self.config_name = ""
        self.created = self.modified = time.time()
        self.fleet: Fleet | None = None
        self._start, self._logs = start, logs
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None

    def take(self, config: Body) -> None:
        """Begin to serve a configuration, the first or another one; returns at once."""
        name, first = config["EndpointConfigName"], self.fleet is None
        with self._lock:
            self._enter(CREATING if first else UPDATING)
            before, self.config_name = self.config_name, name
            self._worker = threading.Thread(target=self._raise, args=(config, before), daemon=True)
            self._worker.start()

    def close(self) -> None:
        """End its containers."""
        self._ending.set()
        if self._worker is not None:
            self._worker.join()
        with self._lock:
            fleet, self.fleet = self.fleet, None
        if fleet is not None:
            fleet.retire()

    @contextmanager
    def answering(self) -> Iterator[Fleet | None]:
        """The fleet that answers now, which does not end before the block does."""
        with self._lock:
            fleet = self.fleet
            if fleet is not None:
                with fleet.idle:
                    fleet.busy += 1
        try:
            yield fleet
        finally:
            if fleet is not None:
                with fleet.idle:
                    fleet.busy -= 1
                    fleet.idle.notify_all()

    def describe(self) -> Body:
        """DescribeEndpoint."""
        described: Body = {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "EndpointConfigName": self.config_name,
            "EndpointStatus": self.status,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
        }
        if self.reason:
            described["FailureReason"] = self.reason[:1024]
        fleet = self.fleet
        if fleet is not None:
            described["ProductionVariants"] = [_shown(fleet.variant)]
            if "AsyncInferenceConfig" in fleet.config:
                described["AsyncInferenceConfig"] = fleet.config["AsyncInferenceConfig"]
            capture = fleet.config.get("DataCaptureConfig")
            if capture:
                described["DataCaptureConfig"] = _capturing(capture)
        return described

    def summary(self) -> Body:
        """An entry of ListEndpoints."""
        return {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "EndpointStatus": self.status,
        }

    def _raise(self, config: Body, before: str) -> None:
        try:
            fleet = self._fleet(config)
        except FleetError as error:
            self._fall(str(error), before)
            return
        except (
            Exception
        ) as error:  # Whatever breaks, an endpoint ends in a state that a person can read.
            self._fall(f"{type(error).__name__}: {error}", before)
            return
        with self._lock:
            old, self.fleet = self.fleet, fleet
            self.reason = ""
            self._enter(IN_SERVICE)
        if old is not None:
            old.retire()

    def _fall(self, reason: str, before: str) -> None:
        with self._lock:
            self.reason = reason
            if self.fleet is None:
                self._enter(FAILED)
                return
            self._enter(ROLLING_BACK)
            self.config_name = before
            self._enter(IN_SERVICE)

    def _fleet(self, config: Body) -> Fleet:
        variant = config["ProductionVariants"][0]
        stream = f"{variant['VariantName']}/i-{uuid.uuid4().hex[:17]}"
        log = LogStream(self._logs, self.name, group=GROUP.format(self.name), name=stream)
        folder = tempfile.TemporaryDirectory(prefix="sagelight-endpoint-")
        try:
            server = self._start(variant["ModelName"], Path(folder.name), log.write)
        except (DownloadError, Refusal) as error:
            log.close()
            folder.cleanup()
            raise FleetError(str(error)) from error
        seconds = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS)
        fleet = Fleet(config, server, log, folder)
        if not server.wait_ready(seconds, self._ending):
            fleet.retire()
            raise FleetError(NO_PING.format(variant["VariantName"]))
        return fleet

    def _enter(self, status: str) -> None:
        self.status, self.modified = status, time.time()


class Endpoints:
    """All endpoints and their configurations."""

    def __init__(
        self, arn: str, logs: Any, start: StartModel, check_model: Callable[[str], object]
    ) -> None:
        """Arguments: the beginning of every ARN; a client of CloudWatch Logs; what starts a model's container; what
        refuses the name of a model that there is not."""
        self.endpoints: dict[str, Endpoint] = {}
        self.configs: dict[str, Body] = {}
        self._arn, self._logs, self._start, self._check_model = arn, logs, start, check_model
        self._lock = threading.Lock()

    def operations(self) -> dict[str, Callable[[Body], Body]]:
        """The API's operations on endpoints and configurations."""
        return {
            "CreateEndpointConfig": self._create_config,
            "DescribeEndpointConfig": self._describe_config,
            "DeleteEndpointConfig": self._delete_config,
            "ListEndpointConfigs": lambda _: {
                "EndpointConfigs": [self._config_summary(each) for each in self.configs.values()]
            },
            "CreateEndpoint": self._create,
            "UpdateEndpoint": self._update,
            "DescribeEndpoint": lambda body: self._find(body).describe(),
            "DeleteEndpoint": self.delete,
            "ListEndpoints": lambda _: {
                "Endpoints": [each.summary() for each in list(self.endpoints.values())]
            },
        }

    def delete(self, body: Mapping[str, Any]) -> Body:
        """DeleteEndpoint: refused while it is created or updated, as by the service."""
        with self._lock:
            endpoint = self._find(body)
            if endpoint.status == DELETING:
                return {}
            self._refuse_busy(endpoint)
            endpoint.status = DELETING
        threading.Thread(target=self._end, args=(endpoint,), daemon=True).start()
        return {}

    def close(self) -> None:
        """End every container."""
        enders = [
            threading.Thread(target=endpoint.close) for endpoint in list(self.endpoints.values())
        ]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()

    def _create_config(self, body: Body) -> Body:
        name = body["EndpointConfigName"]
        if len(body["ProductionVariants"]) > 1:
            raise Refusal("ValidationException", "the rehearsal runs one production variant")
        for variant in body["ProductionVariants"]:
            self._check_model(variant.get("ModelName", ""))
        with self._lock:
            if name in self.configs:
                raise Refusal(
                    "ValidationException",
                    f'Cannot create already existing endpoint configuration "{self._config_arn(name)}".',
                )
            self.configs[name] = {**body, "CreationTime": time.time()}
        return {"EndpointConfigArn": self._config_arn(name)}

    def _describe_config(self, body: Body) -> Body:
        config = self._config(body["EndpointConfigName"])
        shown = {key: value for key, value in config.items() if key != "Tags"}
        return {**shown, "EndpointConfigArn": self._config_arn(config["EndpointConfigName"])}

    def _delete_config(self, body: Body) -> Body:
        self._config(body["EndpointConfigName"])
        del self.configs[body["EndpointConfigName"]]
        return {}

    def _create(self, body: Body) -> Body:
        name = body["EndpointName"]
        config = self._config(body["EndpointConfigName"])
        with self._lock:
            if name in self.endpoints:
                raise Refusal(
                    "ValidationException",
                    f'Cannot create already existing endpoint "{self._endpoint_arn(name)}".',
                )
            endpoint = Endpoint(name, self._endpoint_arn(name), self._start, self._logs)
            self.endpoints[name] = endpoint
            endpoint.take(config)
        return {"EndpointArn": endpoint.arn}

    def _update(self, body: Body) -> Body:
        config = self._config(body["EndpointConfigName"])
        with self._lock:
            endpoint = self._find(body)
            self._refuse_busy(endpoint)
            if endpoint.status == FAILED:
                raise Refusal(
                    "ValidationException", f'Cannot update failed endpoint "{endpoint.arn}".'
                )
            endpoint.take(config)
        return {"EndpointArn": endpoint.arn}

    def _end(self, endpoint: Endpoint) -> None:
        endpoint.close()
        with self._lock:
            del self.endpoints[endpoint.name]

    def _refuse_busy(self, endpoint: Endpoint) -> None:
        if endpoint.status not in (IN_SERVICE, FAILED):
            raise Refusal(
                "ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".'
            )

    def _find(self, body: Mapping[str, Any]) -> Endpoint:
        name = body["EndpointName"]
        if name not in self.endpoints:
            raise Refusal(
                "ValidationException", f'Could not find endpoint "{self._endpoint_arn(name)}".'
            )
        return self.endpoints[name]

    def _config(self, name: str) -> Body:
        if name not in self.configs:
            raise Refusal(
                "ValidationException",
                f'Could not find endpoint configuration "{self._config_arn(name)}".',
            )
        return self.configs[name]

    def _config_summary(self, config: Body) -> Body:
        return {
            "EndpointConfigName": config["EndpointConfigName"],
            "EndpointConfigArn": self._config_arn(config["EndpointConfigName"]),
            "CreationTime": config["CreationTime"],
        }

    def _endpoint_arn(self, name: str) -> str:
        return f"{self._arn}:endpoint/{name}"

    def _config_arn(self, name: str) -> str:
        return f"{self._arn}:endpoint-config/{name}"


def _shown(variant: Body) -> Body:
    weight = variant.get("InitialVariantWeight", 1.0)
    count = variant.get("InitialInstanceCount", 0)
    shown: Body = {
        "VariantName": variant["VariantName"],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": count,
    }
    if "ServerlessConfig" in variant:
        shown["CurrentServerlessConfig"] = variant["ServerlessConfig"]
    return shown


def _capturing(capture: Body) -> Body:
    return {
        "EnableCapture": capture.get("EnableCapture", False),
        "CaptureStatus": "Started" if capture.get("EnableCapture") else "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }

"""One endpoint of the rehearsal: its states, and the container that answers."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
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
        try:
            if server.wait_ready(seconds, self._ending):
                return fleet
            raise FleetError(NO_PING.format(variant["VariantName"]))
        except BaseException:
            fleet.retire()
            raise

    def _enter(self, status: str) -> None:
        self.status, self.modified = status, time.time()


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

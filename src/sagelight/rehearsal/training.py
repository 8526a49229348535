"""A training job of the rehearsal: its states, its log, its metrics, and the thread that runs it."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagelight.rehearsal.container import Container, end, lines_of
from sagelight.rehearsal.logs import LogStream

SYNC_SECONDS = 2.0
LONGEST_REASON = 1024
ENDED = ("Completed", "Failed", "Stopped")


class TrainingJob:
    """One job, from InProgress to Completed, Failed or Stopped; never there before it is true."""

    def __init__(
        self,
        request: Mapping[str, Any],
        region: str,
        account: str,
        clients: Any,
        environment: Mapping[str, str],
    ) -> None:
        self.request = request
        self.name = str(request["TrainingJobName"])
        self.arn = f"arn:aws:sagemaker:{region}:{account}:training-job/{self.name}"
        self.status, self.secondary = "InProgress", "Starting"
        self.reason: str | None = None
        self.model_uri: str | None = None
        self.created = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self.metrics: dict[str, tuple[float, float]] = {}
        self.history: list[tuple[str, float]] = [("Starting", self.created)]
        self._clients = clients
        self._environment = environment
        self._regexes = {
            definition["Name"]: re.compile(definition["Regex"])
            for definition in request["AlgorithmSpecification"].get("MetricDefinitions", ())
        }
        self._stop = threading.Event()
        self._interrupt = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self.thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin to run; returns at once."""
        self.thread.start()

    def stop(self) -> None:
        """StopTrainingJob: the program gets SIGTERM, then time, then SIGKILL."""
        if self.status == "InProgress":
            self.status = "Stopping"
        self._stop.set()

    def interrupt(self) -> None:
        """Take a spot machine away in mid-training; the job continues on another one."""
        self._interrupt.set()

    def _run(self) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="sagelight-rehearsal-") as scratch:
                self._train(Path(scratch))
        except Exception as error:  # Whatever breaks, a job ends in a state that a person can read.
            self._finish("Failed", "Failed", str(error) or type(error).__name__)

    def _train(self, scratch: Path) -> None:
        log = LogStream(self._clients.logs, self.name)
        attempt = 0
        while True:
            attempt += 1
            base = scratch / f"machine-{attempt}" / "opt" / "ml"
            container = Container(
                self.name, self.request, base, self._clients.s3, self._environment
            )
            container.prepare()
            self._enter("Downloading")
            container.download()
            self._enter("Training")
            self.started = self.started or time.time()
            outcome = self._execute(container, log)
            if outcome != "interrupted":
                break
            log.write("the spot machine was taken away; the job continues on another one")
            container.remove()
            self._enter("Interrupted")
        log.close()
        self._settle(container, outcome)

    def _execute(self, container: Container, log: LogStream) -> str:
        process = container.start()
        reader = threading.Thread(
            target=lines_of, args=(process, lambda line: self._heard(line, log)), daemon=True
        )
        reader.start()
        longest = self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        saved: dict[str, tuple[int, int]] = {}
        synced = time.monotonic()
        outcome = ""
        while process.poll() is None:
            if self._stop.wait(0.1):
                end(process)
                outcome = "stopped"
            elif self._interrupt.is_set():
                self._interrupt.clear()
                end(process, grace=0)
                outcome = "interrupted"
            elif time.time() - (self.started or 0) > longest:
                end(process)
                outcome = "too long"
            elif time.monotonic() - synced > SYNC_SECONDS:
                container.save_checkpoints(saved)
                synced = time.monotonic()
        reader.join()
        if outcome != "interrupted":
            container.save_checkpoints(saved)
        return outcome or ("completed" if process.returncode == 0 else f"exit {process.returncode}")

    def _settle(self, container: Container, outcome: str) -> None:
        if outcome.startswith("exit"):
            reason = container.failure() or outcome
            self._finish(
                "Failed",
                "Failed",
                f"AlgorithmError: {reason}, {outcome.replace('exit', 'exit code:')}",
            )
            return
        self._enter("Uploading")
        self.model_uri = container.upload_results()
        states = {
            "completed": ("Completed", "Completed"),
            "stopped": ("Stopped", "Stopped"),
            "too long": ("Stopped", "MaxRuntimeExceeded"),
        }
        self._finish(*states[outcome], None)

    def _heard(self, line: str, log: LogStream) -> None:
        log.write(line)
        for name, regex in self._regexes.items():
            found = regex.search(line)
            if found:
                self.metrics[name] = (float(found.group(1)), time.time())

    def _enter(self, secondary: str) -> None:
        self.secondary = secondary
        self.history.append((secondary, time.time()))

    def _finish(self, status: str, secondary: str, reason: str | None) -> None:
        self.reason = reason[:LONGEST_REASON] if reason else None
        self.ended = time.time()
        self._enter(secondary)
        self.status = status

    @property
    def done(self) -> bool:
        """Whether nothing changes any more."""
        return self.status in ENDED

    def describe(self) -> dict[str, Any]:
        """DescribeTrainingJob: the request as it came, and what became of it."""
        return _present(
            {
                **self.request,
                "TrainingJobArn": self.arn,
                "TrainingJobStatus": self.status,
                "SecondaryStatus": self.secondary,
                "FailureReason": self.reason,
                "ModelArtifacts": {"S3ModelArtifacts": self.model_uri} if self.model_uri else None,
                "CreationTime": self.created,
                "TrainingStartTime": self.started,
                "TrainingEndTime": self.ended,
                "LastModifiedTime": self.history[-1][1],
                "SecondaryStatusTransitions": [
                    {"Status": status, "StartTime": when} for status, when in self.history
                ],
                "FinalMetricDataList": [
                    {"MetricName": name, "Value": value, "Timestamp": when}
                    for name, (value, when) in self.metrics.items()
                ],
                "TrainingTimeInSeconds": int(self.ended - self.started)
                if self.ended and self.started
                else None,
            }
        )

    def summary(self) -> dict[str, Any]:
        """An entry of ListTrainingJobs."""
        return _present(
            {
                "TrainingJobName": self.name,
                "TrainingJobArn": self.arn,
                "CreationTime": self.created,
                "TrainingEndTime": self.ended,
                "TrainingJobStatus": self.status,
            }
        )


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}

"""A training job of the rehearsal: its states, its log, its metrics, and the thread that runs it."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sagelight.rehearsal.container import Container
from sagelight.rehearsal.logs import LogStream
from sagelight.rehearsal.program import GRACE_SECONDS, TrainProgram, end

SYNC_SECONDS = 2.0
LONGEST_REASON = 1024
ENDED = ("Completed", "Failed", "Stopped")
# Of the service's states for a rule, Stopped is the one that claims no verdict.
NOT_EVALUATED = (
    "not evaluated: a rehearsal does not run AWS's rule images; `debug trial=` runs ours"
)
# The toolkit lets the machines of a job meet at a port that it does not choose, and here they are all one machine.
_ONE_AT_A_TIME = threading.Lock()


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
        self.series: dict[str, list[float]] = {}
        self.history: list[tuple[str, float]] = [("Starting", self.created)]
        self._clients = clients
        self._environment = environment
        self._regexes = {
            definition["Name"]: re.compile(definition["Regex"])
            for definition in request["AlgorithmSpecification"].get("MetricDefinitions", ())
        }
        self._stop = threading.Event()
        self._interrupt = threading.Event()
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
        count = self.request["ResourceConfig"].get("InstanceCount", 1)
        logs = [LogStream(self._clients.logs, self.name, n + 1) for n in range(count)]
        attempt = 0
        while True:
            attempt += 1
            machines = self._machines(scratch / f"attempt-{attempt}", count)
            for container in machines:
                container.prepare()
            self._enter("Downloading")
            for container in machines:
                container.download()
            self._enter("Training")
            self.started = self.started or time.time()
            with _ONE_AT_A_TIME if count > 1 else nullcontext():
                outcome = self._execute(machines, logs)
            if outcome != "interrupted":
                break
            logs[0].write("the spot machine was taken away; the job continues on another one")
            for container in machines:
                container.remove()
            self._enter("Interrupted")
        for log in logs:
            log.close()
        self._settle(machines, outcome)

    def _machines(self, scratch: Path, count: int) -> list[Container]:
        # The machines of one job find each other by these names; one machine needs nobody.
        hosts = ["algo-1"] if count == 1 else [f"127.0.0.{n + 1}" for n in range(count)]
        return [
            Container(
                self.name,
                self.request,
                host,
                hosts,
                scratch / host / "opt" / "ml",
                self._clients.s3,
                self._environment,
            )
            for host in hosts
        ]

    def _execute(self, machines: list[Container], logs: list[LogStream]) -> str:
        programs = [container.start() for container in machines]
        readers = [
            threading.Thread(target=self._listen, args=(program, log), daemon=True)
            for program, log in zip(programs, logs, strict=True)
        ]
        for reader in readers:
            reader.start()
        outcome = self._watch(programs, machines)
        for reader in readers:
            reader.join()
        failed = next((p.returncode for p in programs if p.returncode), 0)
        return outcome or (f"exit {failed}" if failed else "completed")

    def _watch(self, programs: list[TrainProgram], machines: list[Container]) -> str:
        """Wait for the end; gives why the programs were ended, or nothing when they ended by themselves."""
        longest = self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        saved: list[dict[str, tuple[int, int]]] = [{} for _ in machines]
        synced = time.monotonic()
        outcome = ""
        while any(program.returncode is None for program in programs):
            if self._stop.wait(0.1):
                outcome = "stopped"
            elif self._interrupt.is_set():
                self._interrupt.clear()
                outcome = "interrupted"
            elif time.time() - (self.started or 0) > longest:
                outcome = "too long"
            if outcome or any(program.returncode for program in programs):
                # A machine that fails takes the job's others with it.
                end(programs, grace=0 if outcome == "interrupted" else GRACE_SECONDS)
            elif time.monotonic() - synced > SYNC_SECONDS:
                _save(machines, saved)
                synced = time.monotonic()
        if outcome != "interrupted":
            _save(machines, saved)
        return outcome

    def _settle(self, machines: list[Container], outcome: str) -> None:
        if outcome.startswith("exit"):
            reason = next(filter(None, (each.failure() for each in machines)), outcome)
            self._finish(
                "Failed",
                "Failed",
                f"AlgorithmError: {reason}, {outcome.replace('exit', 'exit code:')}",
            )
            return
        self._enter("Uploading")
        output = self.request["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        for name, folder in (("output.tar.gz", "output/data"), ("model.tar.gz", "model")):
            uri = f"{output}/{self.name}/output/{name}"
            files = (found for each in machines for found in each.results(folder))
            machines[0].upload(uri, files)
        self.model_uri = uri
        states = {
            "completed": ("Completed", "Completed"),
            "stopped": ("Stopped", "Stopped"),
            "too long": ("Stopped", "MaxRuntimeExceeded"),
        }
        self._finish(*states[outcome], None)

    def _listen(self, program: TrainProgram, log: LogStream) -> None:
        with program.output as output:
            for line in output:
                self._heard(line.rstrip("\n"), log)

    def _heard(self, line: str, log: LogStream) -> None:
        log.write(line)
        for name, regex in self._regexes.items():
            found = regex.search(line)
            if found:
                value = float(found.group(1))
                self.metrics[name] = (value, time.time())
                self.series.setdefault(name, []).append(value)

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
                **{
                    f"{kind}EvaluationStatuses": _unevaluated(
                        self.request.get(f"{kind}Configurations", ()), self.created
                    )
                    for kind in ("DebugRule", "ProfilerRule")
                },
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


def _unevaluated(rules: Sequence[Mapping[str, Any]], when: float) -> list[dict[str, Any]] | None:
    """The states of rules whose images run at AWS only: no verdict, and why."""
    return [
        {
            "RuleConfigurationName": rule["RuleConfigurationName"],
            "RuleEvaluationStatus": "Stopped",
            "StatusDetails": NOT_EVALUATED,
            "LastModifiedTime": when,
        }
        for rule in rules
    ] or None


def _save(machines: list[Container], saved: list[dict[str, tuple[int, int]]]) -> None:
    for container, known in zip(machines, saved, strict=True):
        container.save(known)


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}

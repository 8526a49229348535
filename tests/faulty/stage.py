"""A rehearsal behind a faulty proxy, for commands: its jobs leave at once what others took minutes for.

The services are the rehearsal's own, and endpoints and transform jobs are answered by real servers, one a bundle for
all of them. Only the program inside a training job, and Clarify's, are stand-ins: what they compute is not the point.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from bundles import make_bundle
from faulty.proxy import REAL_SLEEP, Faulty, faulty
from sagelight.rehearsal.model_server import DownloadError, ModelServer
from sagelight.rehearsal.server import ACCOUNT, REGION, Rehearsal, rehearsal
from sagelight.rehearsal.service import SageMaker
from sagelight.tuning.trials import Trial, write_trials

BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
# In a job's own environment: runs until it is stopped; leaves what a study inside one job leaves.
FOREVER, INNER_STUDY = "FAULTY_RUNS", "FAULTY_STUDY"
LINES = (
    "sagelight-metrics epoch=1 train/loss=0.9 val/loss=0.8 val/accuracy=0.5 objective=0.5",
    "sagelight-metrics epoch=2 train/loss=0.4 val/loss=0.5 val/accuracy=0.875 objective=0.875",
)
METRICS = {
    "test/accuracy": 0.875,
    "test/accuracy_low": 0.6,
    "test/accuracy_high": 0.98,
    "best_epoch": 2,
}
MOTO = ("s3", "logs", "scheduler", "applicationautoscaling")
SETTLING = ("InProgress", "Stopping", "Creating", "Updating", "RollingBack", "Deleting")


class QuickProgram:
    """What stands in for the program of a training job."""

    bundle: ClassVar[Path]

    def __init__(self, variables: Mapping[str, str], folder: Path) -> None:
        self._ended = threading.Event()
        self.output = io.StringIO("".join(f"{line}\n" for line in LINES))
        if FOREVER in variables:
            return
        output = folder / "output" / "data"
        (output / "metrics.json").write_text(json.dumps(METRICS))
        (output / "report.html").write_text("<html></html>")
        if INNER_STUDY in variables:
            values = {"optimizer.lr": "0.01"}
            write_trials([Trial("0", "Completed", 0.875, values, 1.0)], output)
        else:
            shutil.copytree(self.bundle, folder / "model", dirs_exist_ok=True)
        self._ended.set()

    @property
    def returncode(self) -> int | None:
        return 0 if self._ended.is_set() else None

    def wait(self) -> None:
        self._ended.wait()

    def signal(self, number: signal.Signals) -> None:
        self._ended.set()


class SharedServer(ModelServer):
    """A model's real server, started once for all endpoints and jobs with the same archive and variables."""

    folder: ClassVar[Path]
    running: ClassVar[dict[str, ModelServer]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        model_data: str,
        environment: Mapping[str, str],
        scratch: Path,
        s3: Any,
        variables: Mapping[str, str],
        heard: Callable[[str], None] | None = None,
    ) -> None:
        bucket, _, key = model_data.removeprefix("s3://").partition("/")
        try:
            archive = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey as error:
            raise DownloadError(f"Could not find model data at {model_data}.") from error
        mark = hashlib.sha256(archive + json.dumps(dict(environment)).encode()).hexdigest()
        with self.lock:
            if mark not in self.running:
                own = Path(tempfile.mkdtemp(dir=self.folder))
                self.running[mark] = ModelServer(model_data, environment, own, s3, variables)
        self.__dict__.update(self.running[mark].__dict__)

    def close(self) -> None:
        """It stays for the next one."""

    @classmethod
    def end(cls) -> None:
        for server in cls.running.values():
            server.close()
        cls.running.clear()


class Stage:
    """A rehearsal, and the proxy in front of it."""

    def __init__(self, running: Rehearsal, proxy: Faulty) -> None:
        self.running, self.proxy = running, proxy

    def variables(self, direct: bool = False) -> dict[str, str]:
        """What a person exports to come through the proxy, or past it."""
        url = self.running.url if direct else self.proxy.url
        reached = {"AWS_ENDPOINT_URL": url, "S3_ENDPOINT_URL": url}
        nowhere = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
        return {**self.running.environment, **reached, **nowhere}

    def reset(self) -> None:
        """An account in which nothing has been made yet."""
        from moto.backends import get_backend

        before = self.running.sagemaker
        before.close()
        for name in MOTO:
            for account in get_backend(name).values():
                for backend in account.values():
                    backend.reset()
        self.running.sagemaker = SageMaker(
            REGION, ACCOUNT, before.clients, self.running.environment
        )
        _let_clarify_work(self.running.sagemaker)

    def costly(self) -> dict[str, str]:
        """All jobs and endpoints that have been asked for, by name with their state; not the trials of studies."""
        service = self.running.sagemaker
        trials = {
            job.name for study in list(service.tuning.values()) for job, _ in list(study.trials)
        }
        found = {n: j.status for n, j in list(service.training.items()) if n not in trials}
        found |= {
            name: study.describe()["HyperParameterTuningJobStatus"]
            for name, study in list(service.tuning.items())
        }
        found |= {name: job.status for name, job in list(service.transforming.jobs.items())}
        found |= {n: j["ProcessingJobStatus"] for n, j in list(service.processing.jobs.items())}
        ends = service.hosting.endpoints.endpoints
        return found | {f"{name}": e.status for name, e in list(ends.items())}

    def state(self) -> dict[str, Any]:
        """Everything that lies in the account, once all has come to rest (but jobs that run for ever)."""
        deadline = time.monotonic() + 30
        while any(s in SETTLING for s in self.costly().values()) and time.monotonic() < deadline:
            REAL_SLEEP(0.02)
            if all(s == "InProgress" for s in self.costly().values() if s in SETTLING) and (
                self._all_run_for_ever()
            ):
                break
        hosting = self.running.sagemaker.hosting
        ends = hosting.endpoints.endpoints
        return {
            "costly": self.costly(),
            "trials": sorted(self.running.sagemaker.training),
            "models": sorted(hosting.models),
            "configs": sorted(hosting.endpoints.configs),
            "serving": {name: end.config_name for name, end in list(ends.items())},
            **_in_moto(),
        }

    def _all_run_for_ever(self) -> bool:
        jobs = self.running.sagemaker.training.values()
        return all(job.done or FOREVER in job.request.get("Environment", {}) for job in jobs)


@contextmanager
def stage(scratch: Path) -> Iterator[Stage]:
    """A rehearsal behind a proxy for as long as the block lasts; `scratch` is an empty folder."""
    QuickProgram.bundle, SharedServer.folder = make_bundle(scratch / "bundle"), scratch
    with (
        mock.patch("sagelight.rehearsal.container.TrainProgram", QuickProgram),
        mock.patch("sagelight.rehearsal.hosting.ModelServer", SharedServer),
        mock.patch("sagelight.rehearsal.transform_job.ModelServer", SharedServer),
        mock.patch("sagelight.rehearsal.server.load_programs"),
        rehearsal() as running,
        faulty(running.url) as proxy,
    ):
        made = Stage(running, proxy)
        made.reset()
        try:
            yield made
        finally:
            SharedServer.end()


def _let_clarify_work(service: SageMaker) -> None:
    """The rehearsal does not run Clarify's jobs; here they leave two files and are completed."""
    processing = service.processing
    create = processing._create

    def completed(body: dict[str, Any]) -> dict[str, Any]:
        answer = create(body)
        job = processing.jobs[body["ProcessingJobName"]]
        if job["ProcessingJobStatus"] != "Failed":
            uri = body["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
            bucket, _, prefix = uri.removeprefix("s3://").partition("/")
            for name in ("analysis.json", "shap/0.json"):
                key = f"{prefix.rstrip('/')}/{name}"
                service.clients.s3.put_object(Bucket=bucket, Key=key, Body=b'{"stands": "in"}')
            job["ProcessingJobStatus"] = "Completed"
        return answer

    processing._create = completed  # type: ignore[method-assign]


def _in_moto() -> dict[str, Any]:
    from moto.backends import get_backend

    buckets = get_backend("s3")[ACCOUNT]["aws"].buckets
    schedules = get_backend("scheduler")[ACCOUNT][REGION].schedule_groups
    targets = get_backend("applicationautoscaling")[ACCOUNT][REGION].targets
    return {
        "objects": {
            f"{bucket.name}/{key}": None if "/output/" in key else value.etag
            for bucket in buckets.values()
            for key, value in bucket.keys.items()
            # Photos and answers of asynchronous endpoints have a name of their own each time.
            if "/async/" not in key
        },
        "schedules": sorted(n for group in schedules.values() for n in group.schedules),
        "scaled": sorted(resource for kind in targets.values() for resource in kind),
    }

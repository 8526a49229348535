"""One training job as SageMaker's machine would run it: folders, inputs, AWS's own `train` program, outputs.

What differs from the service: a process instead of a container, this Python instead of the image's, this
machine instead of the instance type.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

TOOLKIT_MODULE = "sagemaker_pytorch_container.training:main"
# The service gives a stopped container this long between SIGTERM and SIGKILL.
GRACE_SECONDS = 120
HOST = "algo-1"


@dataclass
class Container:
    """The folders and the process of one job.

    Attributes:
        base: what is /opt/ml inside a real container.
        s3: a boto3 client of the rehearsal's S3.
        environment: variables with which AWS's programs reach the rehearsal only.
    """

    name: str
    request: Mapping[str, Any]
    base: Path
    s3: Any
    environment: Mapping[str, str]

    def prepare(self) -> None:
        """Lay out the folders and write what the service writes for the program."""
        for folder in ("input/config", "input/data", "model", "output/data", "code", "checkpoints"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        config = self.base / "input" / "config"
        resources = self.request["ResourceConfig"]
        kind = resources["InstanceType"]
        _write(config / "hyperparameters.json", self.request.get("HyperParameters", {}))
        _write(
            config / "inputdataconfig.json",
            {
                channel["ChannelName"]: {
                    "TrainingInputMode": channel.get("InputMode", "File"),
                    "S3DistributionType": "FullyReplicated",
                    "RecordWrapperType": "None",
                }
                for channel in self.request.get("InputDataConfig", ())
            },
        )
        _write(
            config / "resourceconfig.json",
            {
                "current_host": HOST,
                "current_instance_type": kind,
                "current_group_name": "homogeneousCluster",
                "hosts": [HOST],
                "instance_groups": [
                    {
                        "instance_group_name": "homogeneousCluster",
                        "instance_type": kind,
                        "hosts": [HOST],
                    }
                ],
                "network_interface_name": "lo",
            },
        )

    def download(self) -> None:
        """Fetch every channel, and the checkpoints of an earlier attempt.

        Raises:
            FileNotFoundError: a channel without an object.
        """
        for channel in self.request.get("InputDataConfig", ()):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            if not self._fetch(uri, self.base / "input" / "data" / channel["ChannelName"]):
                raise FileNotFoundError(
                    f"ClientError: Data download failed: no object lies under {uri}"
                )
        checkpoints = self.request.get("CheckpointConfig")
        if checkpoints:
            self._fetch(checkpoints["S3Uri"], self.base / "checkpoints")

    def start(self) -> subprocess.Popen[str]:
        """Start AWS's `train` program of the sagemaker-training toolkit."""
        program = Path(sys.executable).with_name("train")
        return subprocess.Popen(
            [str(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._variables(),
            cwd=self.base,
            start_new_session=True,
        )

    def save_checkpoints(self, known: dict[str, tuple[int, int]]) -> None:
        """Upload the checkpoint files that have changed since `known`, which is brought up to date."""
        target = self.request.get("CheckpointConfig")
        if not target:
            return
        root = self.base / "checkpoints"
        for name, path in _tree(root):
            try:
                state = path.stat()
                mark = (state.st_mtime_ns, state.st_size)
                if known.get(name) != mark:
                    self._put(f"{target['S3Uri'].rstrip('/')}/{name}", path)
                    known[name] = mark
            except FileNotFoundError:
                # Replaced between listing and reading; the next round takes the new one.
                continue

    def upload_results(self) -> str:
        """Pack model and output as the service does.

        Returns:
            The S3 URI of model.tar.gz.
        """
        folder = (
            f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output"
        )
        for source, name in (("model", "model.tar.gz"), ("output/data", "output.tar.gz")):
            archive = self.base / name
            with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
                for inner, path in _tree(self.base / source):
                    tar.add(path, inner)
            self._put(f"{folder}/{name}", archive)
        return f"{folder}/model.tar.gz"

    def failure(self) -> str:
        """What the program wrote into its failure file; empty when there is none."""
        path = self.base / "output" / "failure"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def remove(self) -> None:
        """Take the instance's disk away."""
        shutil.rmtree(self.base.parent, ignore_errors=True)

    def _variables(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.environment,
            **self.request.get("Environment", {}),
            "SAGEMAKER_BASE_DIR": str(self.base),
            "SAGEMAKER_TRAINING_MODULE": TOOLKIT_MODULE,
            # One host on this machine: there are no names to wait for.
            "SM_STUDIO_LOCAL_MODE": "true",
            "TRAINING_JOB_NAME": self.name,
            "PYTHONUNBUFFERED": "1",
            # Requirements are those of this environment; what is missing must fail, not be fetched.
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def _fetch(self, uri: str, target: Path) -> int:
        place = urlparse(uri)
        prefix, count = place.path.lstrip("/"), 0
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=place.netloc, Prefix=prefix
        )
        target.mkdir(parents=True, exist_ok=True)
        for entry in (entry for page in pages for entry in page.get("Contents", ())):
            # S3Prefix means every key that begins so; the names below its last folder are kept.
            inner = entry["Key"].removeprefix(prefix).lstrip("/") or Path(entry["Key"]).name
            path = target / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(place.netloc, entry["Key"], str(path))
            count += 1
        return count

    def _put(self, uri: str, path: Path) -> None:
        place = urlparse(uri)
        self.s3.upload_file(str(path), place.netloc, place.path.lstrip("/"))


def end(process: subprocess.Popen[str], grace: float = GRACE_SECONDS) -> None:
    """Stop a job's processes as the service does: SIGTERM, patience, SIGKILL."""
    _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(process, signal.SIGKILL)
    process.wait()


def lines_of(process: subprocess.Popen[str], heard: Callable[[str], None]) -> None:
    """Hand every line that a process prints to `heard`, until it ends."""
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            heard(line.rstrip("\n"))


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        # The whole group has ended already.
        return


def _tree(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield path.relative_to(root).as_posix(), path


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")

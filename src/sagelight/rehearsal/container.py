"""One machine of a training job as SageMaker would run it: folders, inputs, AWS's own `train` program, outputs.

What differs from the service: a process instead of a container, this Python instead of the image's, this
machine instead of the instance type.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from sagelight.archives import inside
from sagelight.cloud.tensors import DEBUG_OUTPUT
from sagelight.container.paths import BASE, TENSORS, JobPaths
from sagelight.rehearsal.program import TrainProgram
from sagelight.secrets import without_secrets

TOOLKIT_MODULE = "sagemaker_pytorch_container.training:main"
SUBMITTED = "sagemaker_submit_directory"
# Nobody listens there, and no file has keys.
NOWHERE = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "S3_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@dataclass
class Container:
    """The folders and the process of one machine.

    Attributes:
        host: this machine's name, one of `hosts`.
        base: what is /opt/ml inside a real container.
        s3: a boto3 client of the rehearsal's S3.
        environment: variables with which AWS's programs reach the rehearsal only.
    """

    name: str
    request: Mapping[str, Any]
    host: str
    hosts: Sequence[str]
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
        _write(config / "hyperparameters.json", self._hyperparameters())
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
                "current_host": self.host,
                "current_instance_type": kind,
                "current_group_name": "homogeneousCluster",
                "hosts": list(self.hosts),
                "instance_groups": [
                    {
                        "instance_group_name": "homogeneousCluster",
                        "instance_type": kind,
                        "hosts": list(self.hosts),
                    }
                ],
                "network_interface_name": LOOPBACK,
            },
        )

        self._write_hook_config(config / "debughookconfig.json")

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

    def start(self) -> TrainProgram:
        """Start AWS's `train` program."""
        return TrainProgram(self._variables(), self.base)

    def save(self, known: dict[str, tuple[int, int]]) -> None:
        """Upload the checkpoints and tensors that have changed since `known`, which is brought up to date."""
        for root, target in self._mirrored():
            for name, path in _tree(root):
                self._save(path, f"{target}/{name}", known)

    def results(self, folder: str) -> Iterator[tuple[str, Path]]:
        """The files below `model` or `output/data`, by the names that they have there."""
        return _tree(self.base / folder)

    def upload(self, uri: str, files: Iterable[tuple[str, Path]]) -> None:
        """Put files into one .tar.gz, as the service does with model and output."""
        archive = self.base / Path(uri).name
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for inner, path in files:
                tar.add(path, inner)
        self._put(uri, archive)

    def failure(self) -> str:
        """What the program wrote into its failure file; empty when there is none."""
        path = self.base / "output" / "failure"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def remove(self) -> None:
        """Take the instance's disk away."""
        shutil.rmtree(self.base.parent, ignore_errors=True)

    def _mirrored(self) -> Iterator[tuple[Path, str]]:
        """The folders that the service copies while the program runs, and where to."""
        checkpoints = self.request.get("CheckpointConfig")
        if checkpoints:
            yield self.base / "checkpoints", checkpoints["S3Uri"].rstrip("/")
        hook = self.request.get("DebugHookConfig")
        if hook:
            yield (
                self._tensors(hook),
                f"{hook['S3OutputPath'].rstrip('/')}/{self.name}/{DEBUG_OUTPUT}",
            )

    def _save(self, path: Path, uri: str, known: dict[str, tuple[int, int]]) -> None:
        try:
            state = path.stat()
            mark = (state.st_mtime_ns, state.st_size)
            if known.get(uri) != mark:
                self._put(uri, path)
                known[uri] = mark
        except FileNotFoundError:
            # Replaced between listing and reading; the next round takes the new one.
            return

    def _tensors(self, hook: Mapping[str, Any]) -> Path:
        """The folder of a job's trial, which a real container has at the root of its disk."""
        wanted = Path(hook.get("LocalPath") or TENSORS)
        if wanted.is_relative_to(BASE):
            return self.base / wanted.relative_to(BASE)
        return self.base / "elsewhere" / wanted.relative_to(wanted.anchor)

    def _write_hook_config(self, path: Path) -> None:
        hook = self.request.get("DebugHookConfig")
        if hook:
            _write(path, {**hook, "LocalPath": str(self._tensors(hook))})

    def _hyperparameters(self) -> dict[str, str]:
        """Those of the request; a channel with the code lies where this container keeps it."""
        given: dict[str, str] = self.request.get("HyperParameters", {})
        code = given.get(SUBMITTED, "")
        return given | {SUBMITTED: JobPaths(self.base).inside(code)} if code else given

    def _reach(self) -> dict[str, str]:
        """What leads to AWS: nothing, where the request asks for no network; such a container has no keys either."""
        found = {**without_secrets(os.environ), **self.environment}
        if not self.request.get("EnableNetworkIsolation"):
            return found
        return {name: value for name, value in found.items() if "AWS_" not in name} | NOWHERE

    def _variables(self) -> dict[str, str]:
        return {
            **self._reach(),
            # An image has a path of its own, with torchrun on it, which the toolkit starts by its name.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
            **self.request.get("Environment", {}),
            "SAGEMAKER_BASE_DIR": str(self.base),
            "SAGEMAKER_TRAINING_MODULE": TOOLKIT_MODULE,
            # The machines are all this one: there are no names to wait for, and no network between them.
            "SM_STUDIO_LOCAL_MODE": "true",
            "GLOO_SOCKET_IFNAME": LOOPBACK,
            "TRAINING_JOB_NAME": self.name,
            "PYTHONUNBUFFERED": "1",
            # Requirements are those of this environment; what is missing must fail, not be fetched. What they
            # require in turn was settled when it was made, and costs seconds to look at again.
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
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
            path = inside(target, inner)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(place.netloc, entry["Key"], str(path))
            count += 1
        return count

    def _put(self, uri: str, path: Path) -> None:
        place = urlparse(uri)
        # By its name, a large file would be opened anew for every part, and may be another one by then.
        with path.open("rb") as content:
            self.s3.upload_fileobj(content, place.netloc, place.path.lstrip("/"))


def _tree(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield path.relative_to(root).as_posix(), path


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")

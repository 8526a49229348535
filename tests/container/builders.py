"""Programs that make images: which of them works here, and an image that one of them has made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from container.dockerfile import DOCKERFILE, ROOT

# The image to build on, where Docker Hub is out of reach: the name of one that the builder has or may pull.
BASE = os.environ.get("SAGELIGHT_IMAGE_PYTHON")
TAG = "sagelight-test"
MODEL = "/opt/ml/model"


@dataclass(frozen=True)
class Builder:
    """A program, the words that each of its commands begins with, and where it leaves what it stores."""

    command: list[str]

    def run(self, *words: str) -> str:
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{' '.join(words[:2])}: {done.stderr.strip()[-2000:]}")
        return done.stdout


class BuildError(Exception):
    pass


def engine() -> Builder | None:
    """Docker or Podman, where one of them answers: they build and start."""
    for name in ("docker", "podman"):
        if shutil.which(name):
            asked = subprocess.run([name, "info"], capture_output=True, check=False)
            if asked.returncode == 0:
                return Builder([name])
    return None


def buildah(storage: Path) -> Builder | None:
    """Buildah without an engine, as root; where BASE names an image of its own storage, that is used."""
    if not shutil.which("buildah") or os.geteuid() != 0:
        return None
    own = os.environ.get("SAGELIGHT_BUILDAH_ROOT", str(storage / "root"))
    places = ["--root", own, "--runroot", str(storage / "runroot"), "--storage-driver", "vfs"]
    return Builder(["buildah", *places])


def build(builder: Builder) -> None:
    """Build docker/Dockerfile as TAG.

    Raises:
        BuildError: the builder's own words.
    """
    base = ["--build-arg", f"PYTHON={BASE}"] if BASE else []
    words = ["--tag", TAG, "--file", str(DOCKERFILE), *base, str(ROOT)]
    if builder.command[0] == "buildah":
        # Docker's format, because the other one has no HEALTHCHECK.
        builder.run("bud", "--isolation", "chroot", "--format", "docker", *words)
    else:
        builder.run("build", *words)


@contextmanager
def started(builder: Builder, bundle: Path, port: int) -> Iterator[Callable[[], int]]:
    """The image, started with `serve` and a bundle; calling what is yielded stops it and gives its exit status."""
    if builder.command[0] == "buildah":
        with _with_buildah(builder, bundle, port) as stop:
            yield stop
        return
    words = ["--detach", "--publish", f"127.0.0.1:{port}:8080", "--volume", f"{bundle}:{MODEL}:ro"]
    container = builder.run("run", *words, TAG, "serve").strip()

    def stop() -> int:
        builder.run("stop", "--time", "30", container)
        return int(builder.run("inspect", "--format", "{{.State.ExitCode}}", container))

    try:
        yield stop
    finally:
        builder.run("rm", "--force", container)


@contextmanager
def _with_buildah(builder: Builder, bundle: Path, port: int) -> Iterator[Callable[[], int]]:
    """buildah starts no entry point by itself: it gets the one that the image's own configuration names."""
    container = builder.run("from", TAG).strip()
    config = json.loads(builder.run("inspect", "--type", "image", TAG))["Docker"]["config"]
    volumes = ["--volume", f"{bundle}:{MODEL}:ro"]
    variables = ["--env", f"SAGEMAKER_BIND_TO_PORT={port}", "--env", "SAGELIGHT_HOST=127.0.0.1"]
    words = ["run", "--isolation", "chroot", *volumes, *variables, container, "--"]
    process = subprocess.Popen([*builder.command, *words, *config["Entrypoint"], "serve"])

    def stop() -> int:
        # buildah itself would kill what it runs.
        os.kill(_innermost(process.pid), signal.SIGTERM)
        return process.wait(30)

    try:
        yield stop
    finally:
        process.kill()
        process.wait()
        builder.run("rm", container)


def _innermost(process: int) -> int:
    """The process that a chain of processes has led to."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return _innermost(int(children[0])) if children else process

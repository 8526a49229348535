"""Our image: what its Dockerfile says, and its steps and its entry point in a fresh environment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from bundles import make_bundle
from container.asking import free_port, invoke, jpeg, wait_until_healthy
from container.dockerfile import (
    DOCKERFILE,
    ROOT,
    exec_form,
    health_command,
    instructions,
    pip_steps,
)
from locked import LOCKED
from sbom import differences, pinned

# What training needs and serving must not: the image is small because it has none of it.
TRAINING = ["torch", "torchvision", "pytorch_lightning", "hydra", "sklearn", "boto3", "onnx"]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_keeps_sagemakers_contract() -> None:
    assert exec_form("ENTRYPOINT") == ["python", "-m", "sagelight.container.serve"]
    assert exec_form("CMD") == ["serve"]
    assert instructions("EXPOSE") == ["8080"]
    assert "com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in instructions("LABEL")
    assert int(instructions("USER")[-1]) > 0
    assert health_command()[0] == "python"


def test_the_context_holds_what_is_copied_and_neither_photos_nor_runs() -> None:
    kept = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert all((ROOT / name).exists() for name in kept)
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()
    assert not {"runs", "data", ".venv", ".git", "tests"} & set(kept)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment in which the Dockerfile's own pip steps have run; they need a package index."""
    folder = tmp_path_factory.mktemp("image")
    _copy_context(folder / "source")
    (folder / "source" / "image.txt").write_bytes((LOCKED / "image.txt").read_bytes())
    return [_stage(name, folder) for name in ("wheel", "server")][-1]


def _stage(name: str, folder: Path) -> Path:
    """The Python of one stage, each with what its own steps install."""
    subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
    found = folder / name / "bin" / "python"
    for words in pip_steps(name):
        places = {"python": str(found), "/wheels": f"{folder}/wheels"}
        placed = " ".join(
            places.get(word, word.replace("/wheels/", f"{folder}/wheels/")) for word in words
        )
        # A shell, as in the Dockerfile, for its *.
        done = subprocess.run(
            placed, shell=True, cwd=folder / "source", capture_output=True, text=True
        )
        if "Could not find a version" in done.stderr or "No matching distribution" in done.stderr:
            pytest.skip(f"no package index: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
    return found


def _copy_context(folder: Path) -> None:
    """What .dockerignore lets through."""
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        name = line.removeprefix("!")
        if line.startswith("!"):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            given = ROOT / name
            shutil.copytree(given, target) if given.is_dir() else shutil.copy(given, target)


@contextmanager
def entrypoint(python: Path, base: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """What `docker run IMAGE serve` starts, in the environment instead of the image."""
    command = [str(python), *exec_form("ENTRYPOINT")[1:], *exec_form("CMD")]
    env = {
        "PATH": os.environ["PATH"],
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGELIGHT_HOST": "127.0.0.1",
    }
    with subprocess.Popen(command, env=env, cwd="/", stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_make_a_server_that_needs_nothing_else(
    python: Path, tmp_path: Path
) -> None:
    make_bundle(tmp_path / "ml" / "model")
    port = free_port()
    with entrypoint(python, tmp_path / "ml", port) as process:
        wait_until_healthy(port)
        for colour in ("red", "green", "blue"):
            status, answer = invoke(port, jpeg(colour), "image/jpeg")
            assert (status, answer["label"]) == (200, colour)
        assert invoke(port, b"[1]", "application/x-npy")[0] == 415
        health = [str(python), *health_command()[1:]]
        variables = {"SAGEMAKER_BIND_TO_PORT": str(port)}
        assert subprocess.run(health, env=variables, check=False).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert subprocess.run(health, env=variables, capture_output=True).returncode == 1


@pytest.mark.slow
def test_the_image_has_nothing_of_training(python: Path) -> None:
    code = f"import importlib.util as u; print([m for m in {TRAINING!r} if u.find_spec(m)])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_image_has_what_is_pinned_and_nothing_else(python: Path) -> None:
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    installed = {(canonicalize_name(p["name"]), p["version"]) for p in json.loads(listed.stdout)}
    assert "sagelight" in {name for name, _ in installed}
    assert differences(installed, pinned(str(python), LOCKED / "image.txt")) == []


@pytest.mark.slow
def test_without_a_model_the_port_stays_closed_and_the_reason_is_said(
    python: Path, tmp_path: Path
) -> None:
    with entrypoint(python, tmp_path / "ml", free_port()) as process:
        _, error = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "is no bundle: it has no bundle.json" in error

"""Secrets are planted wherever people have them, everything is done once, and everything that was left is looked through."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.backends import get_backend

from bundles import make_bundle
from images import make_folder
from leaks import leaks, leaks_in_folder
from sagelight.cloud.command import SECONDS_BETWEEN_LOOKS
from sagelight.cloud.door import main as cloud
from sagelight.rehearsal.command import ROLE
from sagelight.rehearsal.server import ACCOUNT, REGION, Rehearsal
from sagelight.rehearsal.service import SageMaker
from stories.commands import ROOT, TINY, run

# Drawn once, so that nothing else looks like them.
PLANTED = {
    "AWS_SECRET_ACCESS_KEY": "q8Zt/Vx2mW+dR5pLc9KsYb3NhFj7GuEa1oTiQe4w",
    "AWS_SESSION_TOKEN": "IQoJb3JpZ2luX2Vj" + "Qm7vX4kPz2" * 6,
    "HF_TOKEN": "hf_" + "kW3vTq9ZxL" * 4,
    "GITHUB_TOKEN": "ghp_" + "Zs7Yb2Qd8K" * 4,
    "DB_PASSWORD": "correct-horse-battery-staple-71",
    "OPENAI_API_KEY": "sk-" + "Lm5Xc8Vb1N" * 5,
}
ADDRESS = "https://me:pa55word-of-an-index@packages.example.com/simple"


@pytest.fixture
def planted(running: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Secrets in variables, in ~/.aws, in hidden files and beside photos, and in an address."""
    for name, value in {**running.environment, "SAGEMAKER_ROLE": ROLE, **PLANTED}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", ADDRESS)
    monkeypatch.setitem(SECONDS_BETWEEN_LOOKS, "aws", 0.2)
    home = tmp_path / "home"
    for file in (home / ".aws" / "credentials", home / ".netrc", tmp_path / "photos" / ".env"):
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = (f"{name.lower()} = {value}\n" for name, value in PLANTED.items())
        file.write_text("[default]\n" + "".join(lines))
    monkeypatch.setenv("HOME", str(home))
    make_folder(tmp_path / "photos", {"": {"blue": 14, "green": 12, "red": 10}})
    (tmp_path / "photos" / "blue" / ".secret").write_text(PLANTED["DB_PASSWORD"])
    (tmp_path / "photos" / "notes.txt").write_text(PLANTED["HF_TOKEN"])
    return {**PLANTED, "PIP_EXTRA_INDEX_URL": "pa55word-of-an-index"}


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All that SageMaker is asked, and what it answers."""
    said: list[bytes] = []
    call = SageMaker.call

    def listening(service: SageMaker, operation: str, body: dict[str, Any]) -> Any:
        answer = call(service, operation, body)
        said.append(json.dumps([operation, body, answer], default=str).encode())
        return answer

    monkeypatch.setattr(SageMaker, "call", listening)
    return said


def left(tmp_path: Path, *places: str) -> Iterator[Path]:
    for place in places:
        assert any((tmp_path / place).rglob("*")), f"{place} is empty"
        yield tmp_path / place


def test_what_a_machine_is_left_with_holds_no_secret(
    planted: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, "data.root=photos", "trainer.max_epochs=1", "logger=tensorboard"]
    assert run(*words, "run_dir=run") == 0
    assert run("evaluate", "bundle=run/bundle", "data.root=photos") == 0
    assert run("predict", "bundle=run/bundle", "input=photos", "output=tables/labels.csv") == 0
    assert run("explain", "bundle=run/bundle", "input=photos/red", "output=explained") == 0
    assert run("prepare", "data.root=photos", "output=shards") == 0
    said = "".join(capfd.readouterr())
    for place in left(tmp_path, "run", "tables", "explained", "shards"):
        assert leaks_in_folder(place, planted) == []
    # Where the code lies names a person, often enough.
    assert leaks_in_folder(Path("run/bundle"), {"where the code lies": str(ROOT / "src")}) == []
    assert leaks_in_folder(tmp_path.parent / f".{tmp_path.name}.cache", planted) == []
    assert leaks("what was printed", said.encode(), planted) == []


def test_what_a_job_leaves_and_is_told_holds_no_secret(
    planted: dict[str, str], heard: list[bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, "data.root=photos", "trainer.max_epochs=1", f"cloud.role={ROLE}"]
    assert cloud([*words, "run_dir=there"]) == 0
    said = "".join(capfd.readouterr())

    [place] = left(tmp_path, "there")
    assert leaks_in_folder(place, planted) == []
    assert leaks("what was printed", said.encode(), planted) == []
    kept = sorted(key for key, _ in _in_buckets())
    for name in ("sourcedir.tar.gz", "output.tar.gz", "model.tar.gz"):
        assert any(key.endswith(name) for key in kept), kept
    assert leaks_in_account(planted, heard) == []


@pytest.mark.slow
def test_what_endpoints_transforms_and_failures_leave_holds_no_secret(
    planted: dict[str, str], heard: list[bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    assert cloud(["deploy", f"bundle={bundle}", "endpoint=flowers"]) == 0
    photo = next((tmp_path / "photos" / "red").glob("*.png"))
    assert cloud(["invoke", "endpoint=flowers", f"input={photo}"]) == 0
    assert cloud(["transform", f"bundle={bundle}", "input=photos", "output=table"]) == 0
    # It says why in many places.
    words = [*TINY, "data.root=photos", f"cloud.role={ROLE}", "trainer.accelerator=mps"]
    assert cloud([*words, "run_dir=never"]) == 2
    assert cloud(["cleanup", "all=true"]) == 0
    said = "".join(capfd.readouterr())
    assert "this machine has none" in said

    [place] = left(tmp_path, "table")
    assert leaks_in_folder(place, planted) == []
    assert leaks("what was printed", said.encode(), planted) == []
    assert leaks_in_account(planted, heard) == []


def leaks_in_account(planted: dict[str, str], heard: list[bytes]) -> list[str]:
    """In all buckets and logs of the rehearsal, and in what the service was asked."""
    assert any(said.startswith(b'["Create') for said in heard)
    everything = [*_in_buckets(), ("logs", _logs()), ("requests", b"\n".join(heard))]
    return [each for name, content in everything for each in leaks(name, content, planted)]


def _in_buckets() -> Iterator[tuple[str, bytes]]:
    for bucket in get_backend("s3")[ACCOUNT]["aws"].buckets.values():
        for key, kept in bucket.keys.items():
            yield key, kept.value


def _logs() -> bytes:
    groups = get_backend("logs")[ACCOUNT][REGION].groups.values()
    streams = [stream for group in groups for stream in group.streams.values()]
    messages = [event.message for stream in streams for event in stream.events]
    assert messages
    return "\n".join(messages).encode()


def _tar(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        entry = tarfile.TarInfo("a/b.txt")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/b.txt", content)
    return file.getvalue()


@pytest.mark.parametrize(
    "wrap",
    [
        bytes,
        gzip.compress,
        _tar,
        _zip,
        lambda content: _tar(_zip(content)),
        *(lambda content, n=n: b64encode(b"x" * n + content + b"y") for n in range(3)),
        lambda content: content.decode().encode("utf-16"),
        lambda content: gzip.compress(content + b" " * 999)[:-12],
    ],
)
@pytest.mark.parametrize("name", PLANTED)
def test_the_scanner_finds_what_lies_there(name: str, wrap: Callable[[bytes], bytes]) -> None:
    found = leaks("file", wrap(b"text before " + PLANTED[name].encode() + b" and after"), PLANTED)
    assert any(each.endswith(f": {name}") for each in found)
    assert leaks("file", wrap(b"text before and after"), PLANTED) == []

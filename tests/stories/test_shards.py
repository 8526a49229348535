"""Photos into shards, on a disk or in a bucket, and a training on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sagelight.cloud.objects import Objects
from stories.commands import LOCAL, TINY, losses, read_csv, refused, run

SHORT = [*TINY, "trainer.max_epochs=1", "debugger=off", "profiler=off"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """An empty bucket of a stand-in for S3 that boto3 finds by the environment, as it finds S3."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sagelight.data.shards.prepare.MEGABYTE", 10_000)
    name = request.node.name.replace("_", "-")[:50].strip("-")
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


def test_a_training_streams_from_a_bucket(
    photos: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"{bucket}/photos"
    words = ["prepare", f"data.root={photos}", f"output={root}", "shard_mb=4"]
    assert run(*words) == 0
    assert run(*words) == 0
    assert "holds these photos already" in capsys.readouterr().out
    names = sorted(Objects(root).sizes())
    assert names[0] == "index.npz"
    assert len(names) > 4
    shards = ["data=shards", f"data.root={root}", "data.shards_folder=copies"]
    assert run(*SHORT, *shards, "data.shuffle_shards=2", "run_dir=run") == 0
    assert {path.name for path in Path("copies").glob("*/*.tar")} == set(names[1:])
    assert len(read_csv(Path("run/evaluation/test.csv"))) == 6
    report = Path("run/report.html").read_text(encoding="utf-8")
    assert "missing" not in report
    assert run("evaluate", "bundle=run/bundle", *shards, "split=validation") == 0
    assert "data.root=" not in capsys.readouterr().err
    assert "holds no shards" in refused(capsys, "check", "data=shards", f"data.root={bucket}/no")
    assert "names no bucket" in refused(capsys, "check", "data=shards", "data.root=s3://")


def test_an_upload_goes_on_where_it_stopped(
    photos: Path,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, sent = f"{bucket}/photos", list[str]()
    upload = Objects.upload

    def dying(self: Objects, path: Path, name: str) -> None:
        sent.append(name)
        if len(sent) == 3:
            raise KeyboardInterrupt
        upload(self, path, name)

    monkeypatch.setattr(Objects, "upload", dying)
    words = ["prepare", f"data.root={photos}", f"output={root}", "shard_mb=4"]
    assert run(*words) == 130
    assert "holds no shards" in refused(capsys, "check", "data=shards", f"data.root={root}")
    assert run(*words) == 0
    assert len(sent) == len(set(sent)) + 1
    assert run("check", "data=shards", f"data.root={root}") == 0
    assert "holds something else" in refused(capsys, *words, "resize=20")
    Objects(f"{bucket}/other").write("notes.txt", b"")
    other = refused(capsys, *words[:2], f"output={bucket}/other")
    assert "holds something else, and nothing in it is overwritten" in other


def test_what_a_bucket_refuses_is_said(
    photos: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", f"data.root={photos}"]
    message = refused(capsys, *words, "output=s3://nobody-has-this-bucket/x")
    assert "s3://nobody-has-this-bucket/x" in message
    assert "NoSuchBucket" in message


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 3])
def test_training_on_shards_is_that_on_files(photos: Path, tmp_path: Path, processes: int) -> None:
    assert run("prepare", f"data.root={photos}", "output=shards") == 0
    words: list[Any] = [*TINY, "trainer.max_epochs=2", "data.batch_size=9", "augment=upright"]
    assert run(*words, f"data.root={photos}", "run_dir=files") == 0
    words += ["data=shards", f"data.root={tmp_path / 'shards'}", f"run_dir={tmp_path / 'sharded'}"]
    if processes == 1:
        assert run(*words) == 0
        assert losses(Path("sharded")) == losses(Path("files"))
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*launcher, str(LOCAL), *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for one, other in zip(losses(Path("sharded")), losses(Path("files")), strict=True):
        assert float(one[1]) == pytest.approx(float(other[1]), abs=1e-4)

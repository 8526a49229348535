"""Photos into shards, on a disk or in a bucket, and a training on them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sagelight.cloud.door import main as cloud
from sagelight.cloud.objects import Objects
from sagelight.rehearsal.command import ROLE
from sagelight.rehearsal.server import rehearsal
from sagelight.training.checkpoints import read_checkpoint
from sagelight.training.within_epoch import FIGURES
from stories.commands import LOCAL, TINY, losses, read_csv, refused, run, start

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


@pytest.fixture
def small_shards(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sagelight.data.shards.prepare.MEGABYTE", 10_000)
    assert run("prepare", f"data.root={photos}", "output=shards", "shard_mb=2") == 0
    assert len(list(Path("shards").glob("train-*.tar"))) > 3
    return Path("shards").resolve()


def wait_within_epoch(process: subprocess.Popen[str], last: Path, epoch: int) -> None:
    """Wait until a training has written a checkpoint in the middle of an epoch, from 0."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if last.is_file():
            left = read_checkpoint(last)
            if FIGURES in left and left["epoch"] == epoch:
                return
        time.sleep(0.005)
    raise AssertionError(f"no checkpoint within epoch {epoch} was seen")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_on_shards_that_was_killed_within_an_epoch_ends_the_same(
    small_shards: Path, processes: int
) -> None:
    words = [*SHORT, "trainer.max_epochs=3", "data.batch_size=4", "trainer.checkpoint_steps=2"]
    words += ["data=shards", f"data.root={small_shards}", "data.shuffle_shards=2"]
    if processes > 1:
        words += ["trainer=ddp", f"trainer.devices={processes}"]
    assert run(*words, "run_dir=whole") == 0
    process = start(*words, "run_dir=killed")
    wait_within_epoch(process, Path("killed/checkpoints/last.ckpt"), epoch=1)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert run(*words, "run_dir=killed") == 0
    for one, other in zip(losses(Path("killed")), losses(Path("whole")), strict=True):
        assert float(one[1]) == pytest.approx(float(other[1]), abs=1e-6)
        assert float(one[2]) == pytest.approx(float(other[2]), abs=1e-4)


@pytest.mark.slow
def test_a_job_reads_the_shards_of_a_bucket_where_they_are_mounted(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagelight.data.shards.prepare.MEGABYTE", 10_000)
    with rehearsal() as stays:
        for name, value in {**stays.environment, "SAGEMAKER_ROLE": ROLE}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="theirs")
        root = "s3://theirs/all"
        assert run("prepare", f"data.root={photos}", f"output={root}", "shard_mb=2") == 0
        words = [*SHORT, "data=shards", f"data.root={root}", "data.shuffle_shards=2"]
        assert cloud([*words, f"run_dir={tmp_path / 'there'}"]) == 0
        [job] = boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
        asked = boto3.client("sagemaker").describe_training_job(
            TrainingJobName=job["TrainingJobName"]
        )
        modes = {each["ChannelName"]: each["InputMode"] for each in asked["InputDataConfig"]}
        assert modes == {"training": "FastFile"}
        assert run(*words, "data.shards_folder=copies", "run_dir=here") == 0
    there, here = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("there", "here")
    )
    assert there["test/loss"] == pytest.approx(here["test/loss"], abs=1e-6)

"""Everything but training, killed at random moments: caches, shards, uploads, bundles in int8, tables of predictions.

    python benchmarks/kills_stages.py kills=200 seed=1 output=runs/kills-stages.json

kills that many times, in the ways and with the claims of kills_training.py: the same command goes on, and what it
leaves is, to the bit, what it leaves when nobody kills it. Uploads go to a rehearsal, which is another process, keeps
its objects, and must be left with one job. Started again, the program goes on.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from killing import make_photos
from killing_stories import Facts, Story, run_stories
from kills_training import WORDS, facts_of_run, kept_of_run, train

from sagelight.cli import main as launch
from sagelight.cloud.door import main as cloud

FEW = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "data.root=../../many"]
ROLE = "arn:aws:iam::123456789012:role/rehearsal"
BUCKET = "sagemaker-us-east-1-123456789012"


def main() -> None:
    run_stories("kills_stages", _prepare, _stories())


def _prepare(scratch: Path) -> None:
    make_photos(scratch / "photos", 12)
    make_photos(scratch / "many", 60, side=160)
    (scratch / "first" / "two").mkdir(parents=True)
    os.chdir(scratch / "first" / "two")
    for run in ("run_dir=one", "run_dir=two"):
        train([*WORDS, run])
    bucket = Bucket()
    bucket.begin(scratch)
    for story in _stories():
        # Whatever they import is then there for those that are killed.
        (scratch / "first" / story.name).mkdir()
        os.chdir(scratch / "first" / story.name)
        assert story.door(list(story.words)) == 0, story.name


def _stories() -> list[Story]:
    bucket = Bucket()
    return [
        Story(
            "caching features",
            [*WORDS, *FEW, "finetune=head", "augment=none"],
            lambda folder: {**facts_of_run(folder), **_files(folder / "features", ".npy")},
            _stage("features", "caching features"),
            train,
            kept_of_run,
            until=0.6,
        ),
        Story(
            "caching photos",
            [*WORDS, *FEW, "data.cache=memmap"],
            lambda folder: {**facts_of_run(folder), **_files(folder / "resized", ".u8")},
            _stage("resized", "caching photos"),
            train,
            kept_of_run,
            until=0.6,
        ),
        _writing(
            "preparing shards",
            ["prepare", "data.root=../../many", "output=shards", "shard_mb=1"],
            "shards",
        ),
        _writing(
            "bundling in int8",
            ["export", "bundle=../../first/two/two/bundle", "data.root=../../photos", "output=int8"],
            "int8",
        ),
        _writing(
            "predicting",
            ["predict", "bundle=../../first/two/two/bundle", "input=../../many", "output=found/labels.csv"],
            "found",
        ),
        Story(
            "preparing in a bucket",
            ["prepare", "data.root=../../many", f"output=s3://{BUCKET}/shards", "shard_mb=1"],
            lambda folder: bucket.objects(),
            lambda folder: "preparing in a bucket",
            launch,
            lambda folder: [],
            prepare=bucket.begin,
        ),
        Story(
            "uploading",
            ["train", *WORDS[1:], "data.root=../../many", "cloud.follow=false", f"cloud.role={ROLE}"],
            lambda folder: bucket.objects(),
            lambda folder: "uploading",
            cloud,
            lambda folder: [],
            prepare=bucket.begin,
        ),
    ]  # fmt: skip


def _writing(name: str, words: list[str], output: str) -> Story:
    def kept(folder: Path) -> list[Path]:
        # These are made again whenever they are asked for.
        return sorted((folder / output).rglob("*.tar")) if name == "preparing shards" else []

    return Story(
        name, words, lambda folder: _files(folder / output), lambda folder: name, launch, kept
    )


def _stage(folder: str, name: str) -> Callable[[Path], str]:
    return lambda place: name if any((place / folder).glob(".*.*")) else f"before or after {name}"


def _files(folder: Path, ending: str = "") -> Facts:
    """Digests of all files, but of those that tell a time."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(f"*{ending}"))
        if path.is_file() and path.name not in (".lock", "README.md", "bundle.json")
    }


class Bucket:
    """A rehearsal in a process of its own, begun anew for each story; its jobs are kept and never run."""

    _pid = 0
    _port = 0

    def begin(self, folder: Path) -> None:
        if Bucket._pid:
            os.kill(Bucket._pid, signal.SIGKILL)
            os.waitpid(Bucket._pid, 0)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            Bucket._port = free.getsockname()[1]
        Bucket._pid = os.fork()
        if not Bucket._pid:
            _serve(Bucket._port)
        for name, value in self._environment().items():
            os.environ[name] = value
        self._wait()
        self._client("s3").create_bucket(Bucket=BUCKET)

    def objects(self) -> Facts:
        """What lies in the bucket, and how many jobs there are."""
        pages = self._client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        found = {
            entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", ())
        }
        jobs = self._client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
        return {**found, "jobs": " ".join(sorted(job["TrainingJobName"] for job in jobs))}

    def _environment(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{Bucket._port}"
        keys = {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "rehearsal"}
        places = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": url, **keys, **places, "AWS_EC2_METADATA_DISABLED": "true"}

    def _client(self, name: str) -> Any:
        import boto3

        return boto3.session.Session().client(name)

    def _wait(self) -> None:
        for _ in range(600):
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", Bucket._port)) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit("the rehearsal never answered")


def _serve(port: int) -> None:
    from sagelight.rehearsal import server
    from sagelight.rehearsal.training import TrainingJob

    os.setsid()
    TrainingJob.start = lambda self: None  # type: ignore[method-assign]
    # The process that programs are forked from is this one's parent's, and there are none.
    server.load_programs = lambda: None
    with server.rehearsal(port):
        while os.getppid() != 1:
            time.sleep(1)
        # Its jobs have never begun, so there is nothing to wait for.
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

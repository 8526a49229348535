"""An S3 behind a line that drops every third connection: what arrives is whole."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagelight.cloud import shards
from sagelight.cloud.bucket import ensure_bucket
from sagelight.cloud.client import Aws
from sagelight.cloud.data import Cargo, LocalFile
from sagelight.cloud.settings import CloudSettings
from sagelight.cloud.upload import upload_cargo
from sagelight.errors import CloudError
from sagelight.rehearsal.server import HOST, REGION, Rehearsal, rehearsal

BUCKET = "lines"


@pytest.fixture(scope="module")
def running() -> Iterator[Rehearsal]:
    with rehearsal() as started:
        yield started


def proxy(target: int, drop: int) -> tuple[int, list[int]]:
    """A port that forwards to `target`, but hangs up on every `drop`-th connection; counts those."""
    listener = socket.create_server((HOST, 0))
    dropped: list[int] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            each.close()

    def serve() -> None:
        for number in itertools.count(1):
            accepted, _ = listener.accept()
            if number % drop == 0:
                dropped.append(number)
                accepted.close()
                continue
            onward = socket.create_connection((HOST, target))
            for pair in ((accepted, onward), (onward, accepted)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], dropped


def cargo(folder: Path, count: int) -> Cargo:
    files = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        path.write_bytes(bytes([number]) * 5000)
        files.append(LocalFile(path.name, path, 5000))
    return Cargo("data", tuple(files), "f" * 64)


def connect(port: int) -> Aws:
    return Aws(CloudSettings(name="rehearsal", endpoint_url=f"http://{HOST}:{port}"), REGION)


def test_every_third_connection_may_drop(
    running: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 10_000)
    port, dropped = proxy(int(running.url.rsplit(":", 1)[1]), drop=3)
    aws = connect(port)
    ensure_bucket(aws, BUCKET, "p", REGION, ours=True)
    sent = upload_cargo(aws, BUCKET, "p", cargo(tmp_path, 24))
    assert dropped
    straight = connect(int(running.url.rsplit(":", 1)[1]))
    listed = straight.s3.list_objects_v2(Bucket=BUCKET, Prefix="p/data/")["Contents"]
    assert len(listed) == 12
    assert sum(entry["Size"] for entry in listed) == sent
    assert upload_cargo(straight, BUCKET, "p", cargo(tmp_path, 24)) == 0


def test_an_interrupted_upload_sends_the_rest_only(
    running: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 10_000)
    aws = connect(int(running.url.rsplit(":", 1)[1]))
    ensure_bucket(aws, "rest", "p", REGION, ours=True)
    whole = upload_cargo(aws, "rest", "p", cargo(tmp_path, 8))
    first = aws.s3.list_objects_v2(Bucket="rest")["Contents"][0]
    aws.s3.delete_object(Bucket="rest", Key=first["Key"])
    assert upload_cargo(aws, "rest", "p", cargo(tmp_path, 8)) == first["Size"] < whole


def test_a_dead_line_says_that_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagelight.cloud.client.ATTEMPTS", 2)
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(CloudError, match=r"Repeat the same command; what was uploaded stays\.$"):
        upload_cargo(connect(port), BUCKET, "p", cargo(tmp_path, 1))

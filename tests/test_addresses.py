"""Where a setting takes a path, an address is a path that is not there: nothing is looked up, and nothing is asked."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bundles import make_bundle
from sagelight.cli import main
from sagelight.cloud.door import main as cloud
from sagelight.cloud.objects import Objects
from sagelight.errors import CloudError
from stories.commands import TINY, refused_by

ADDRESSES = ["http://169.254.169.254/latest", "file:///etc/passwd", "//host/share", "ftp://h/x.pth"]
TRAIN = ["train", *TINY, "run_dir=run"]
DOORS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "data.root": (main, [*TRAIN, "data.root={}"]),
    "shards": (main, [*TRAIN, "data=shards", "data.root={}"]),
    "weights": (main, [*TRAIN, "data.root=photos", "model.weights={}"]),
    "resume": (main, [*TRAIN, "data.root=photos", "resume={}"]),
    "experiment": (main, ["train", "experiment={}.yaml"]),
    "config": (main, ["train", "--config-from", "{}"]),
    "check": (main, ["check", "data.root={}"]),
    "prepare": (main, ["prepare", "data.root={}", "output=shards"]),
    "evaluate": (main, ["evaluate", "bundle={}", "data.root=photos"]),
    "predict": (main, ["predict", "bundle=bundle", "input={}"]),
    "predict with": (main, ["predict", "bundle={}", "input=photos"]),
    "explain": (main, ["explain", "bundle=bundle", "input={}", "output=out"]),
    "serve": (main, ["serve", "bundle={}", "port=0"]),
    "debug": (main, ["debug", "trial={}"]),
    "replay": (main, ["debug", "replay={}"]),
    "deploy": (cloud, ["deploy", "bundle={}", "dry_run=true"]),
    "job": (cloud, ["train", *TINY, "data.root={}", "dry_run=true"]),
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every host that is looked up or connected to; none is."""
    found: list[Any] = []

    def refuse(*where: Any, **how: Any) -> None:
        found.append(where)
        raise OSError("a connection was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return found


@pytest.mark.parametrize("name", DOORS)
def test_an_address_is_refused_and_not_asked(
    name: str, photos: Path, capsys: pytest.CaptureFixture[str], asked: list[Any]
) -> None:
    make_bundle(Path("bundle"))
    Path("photos").symlink_to(photos)
    door, words = DOORS[name]
    address = ADDRESSES[[*DOORS].index(name) % len(ADDRESSES)]
    assert refused_by(door, capsys, *(word.format(address) for word in words))
    assert asked == []


@pytest.mark.parametrize(
    "bucket",
    ["169.254.169.254", "evil.example", "evil.example#", "x@evil.example", "x:80", "[::1]", "..", "a\\b", "x?y", "%2e", "a b"],
)  # fmt: skip
def test_no_name_of_a_bucket_leads_away_from_s3(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "k")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    hosts: list[str | None] = []

    class Stopped(Exception):
        pass

    def stop(request: Any, **_: Any) -> None:
        hosts.append(urlsplit(request.url).hostname)
        raise Stopped

    objects = Objects(f"s3://{bucket}/prefix")
    objects._client.meta.events.register("before-send.s3", stop)
    with pytest.raises((Stopped, CloudError)):
        objects.read("index.npz")
    assert all(host and host.endswith(".amazonaws.com") for host in hosts)

"""Photos by URL: only from hosts that were named, only from public addresses, never for long."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import pytest

from sagelight.errors import ConfigError
from sagelight.serving.server import remote
from sagelight.serving.server.refusal import Refusal
from sagelight.serving.server.remote import Fetcher, is_public

HOSTILE = [
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "0.0.0.0",
    "169.254.169.254",
    "169.254.170.2",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "localhost",
]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every connection that is tried; none is made."""
    tried: list[Any] = []

    async def refuse(*where: Any, **how: Any) -> None:
        tried.append(where)
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(asyncio, "open_connection", refuse)
    return tried


def fetched(fetcher: Fetcher, url: str, most: int = 1000) -> bytes:
    return asyncio.run(fetcher.photo(url, most))


def refusal(fetcher: Fetcher, url: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        fetched(fetcher, url)
    return caught.value


@pytest.mark.parametrize("host", HOSTILE)
def test_inner_addresses_are_refused_even_when_their_host_is_named(
    host: str, connections: list[Any]
) -> None:
    try:
        fetcher = Fetcher([host], 5)
    except ConfigError:
        return
    assert refusal(fetcher, f"http://{host}/latest/meta-data/").status in (403, 422)
    assert connections == []


def test_every_address_of_a_name_must_be_public(
    connections: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that has a public address and an inner one, as for rebinding."""

    async def both(*arguments: Any, **more: Any) -> list[Any]:
        return [(2, 1, 6, "", ("93.184.215.14", 80)), (2, 1, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", both)
    found = refusal(Fetcher(["photos.example.com"], 5), "http://photos.example.com/a.jpg")
    assert (found.status, str(found)) == (403, "photos.example.com is not at a public address.")
    assert connections == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://photos.example.com/",
        "gopher://photos.example.com/",
        "//photos.example.com/",
        "http:///a",
        "http://user@photos.example.com/",
        "http://photos.example.com@127.0.0.1/",
        "http://photos.example.com:0/",
        "http://photos.example.com:99999/",
        "http://photos.example.com\\@127.0.0.1/",
        "http://photos.example.com/\r\nX: y",
        "http://photos.example.com/ a",
        "http://photos.exаmple.com/",
        "http://[::1",
        "http://127.0.0.1%2f@photos.example.com/",
        "",
        "x" * 100_000,
    ],
)
def test_what_is_no_plain_address_is_refused(url: str, connections: list[Any]) -> None:
    assert refusal(Fetcher(["photos.example.com"], 5), url).status == 400
    assert connections == []


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example.com/",
        "http://photos.example.com.evil.example/",
        "http://photos.example.com:8080/",
        "http://photos.example.com./",
    ],
)
def test_other_hosts_are_forbidden(url: str, connections: list[Any]) -> None:
    found = refusal(Fetcher(["photos.example.com"], 5), url)
    assert found.status == HTTPStatus.FORBIDDEN
    assert connections == []


def test_without_hosts_it_is_off(connections: list[Any]) -> None:
    found = refusal(Fetcher([], 5), "https://photos.example.com/")
    assert (found.status, "url_hosts=[HOST,...]" in str(found)) == (400, True)


@pytest.mark.parametrize("host", ["https://a.example", "*", "a.example/b", "a b", "u@a", ""])
def test_a_setting_that_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a host"):
        Fetcher([host], 5)


@pytest.mark.parametrize(
    ("address", "public"),
    [("93.184.215.14", True), ("2606:2800:21f::1", True), ("fe80::1%eth0", False)],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


@contextmanager
def answering(*pieces: bytes, endless: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """A host on loopback that sends pieces to whoever asks: its name, and what it was asked."""
    asked: list[bytes] = []
    stopped = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(65_536))
            try:
                for piece in pieces:
                    connection.sendall(piece)
                while endless and not stopped.wait(0.02):
                    connection.sendall(pieces[-1])
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        finally:
            stopped.set()
            thread.join()


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "is_public", lambda address: True)


@pytest.mark.usefixtures("loopback_is_public")
def test_a_photo_is_fetched() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    with answering(head, b"ph", b"oto") as (host, asked):
        assert fetched(Fetcher([host], 5), f"http://{host}/a/b.jpg?c=d", 5) == b"photo"
    [sent] = asked
    assert sent.startswith(b"GET /a/b.jpg?c=d HTTP/1.1\r\n")
    assert f"host: {host}".encode() in sent.lower()
    assert b"cookie" not in sent.lower()


@pytest.mark.usefixtures("loopback_is_public")
@pytest.mark.parametrize(
    ("pieces", "endless", "reason"),
    [
        ([b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n"], False, "302"),
        ([b"HTTP/1.1 404 No\r\n\r\n"], False, "answered 404"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n123456"], False, "more than the 5 bytes"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 900], True, "more than the 5 bytes"),
        ([b"HTTP/1.1 200 OK\r\nA: ", b"x"], True, "within 0.5 seconds"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n123"], False, "broke off"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], False, "broke off"),
        ([b""], False, "broke off"),
    ],
)
def test_what_does_not_send_the_photo_is_given_up(
    pieces: list[bytes], endless: bool, reason: str
) -> None:
    with answering(*pieces, endless=endless) as (host, _), pytest.raises(Refusal) as caught:
        fetched(Fetcher([host], 0.5), f"http://{host}/", 5)
    assert caught.value.status == HTTPStatus.UNPROCESSABLE_ENTITY
    assert reason in str(caught.value)

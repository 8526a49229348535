"""What comes over the network: bytes on a connection, bodies, headers, addresses, and what an address answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import socket
from functools import cache
from typing import Any

import h11
import uvicorn
from uvicorn.server import ServerState

from bundles import make_bundle, photo
from fuzzing.changes import change_json, change_words, joined, parts_of
from fuzzing.target import Target, scratch
from sagelight.serving.predictor import Predictor
from sagelight.serving.server.app import MOST_HEAD_BYTES, SANE_ID
from sagelight.serving.server.bodies import Instances, instances
from sagelight.serving.server.media import ANSWERS, answer_kind, is_json
from sagelight.serving.server.protocol import guarded_protocol
from sagelight.serving.server.refusal import Refusal
from sagelight.serving.server.remote import Address, Fetcher, answered_body, is_public
from sagelight.serving.server.routes import make_app
from sagelight.serving.server.service import Service
from sagelight.serving.server.settings import ServeSettings

SECONDS = 5.0
MOST = 4096
HERE = Address("http", "photos.example.com", 80, "/")


def _body(data: bytes) -> None:
    asked = instances(data)
    assert isinstance(asked, Instances)
    assert all(isinstance(photo, str) or photo for photo in asked.photos)


def _headers(data: bytes) -> None:
    accept, kind, url, address = (part.decode("latin-1") for part in parts_of(data, 4))
    for work in (
        lambda: answer_kind(accept) in ANSWERS,
        lambda: is_json(kind) in (True, False),
        lambda: _allowed(url),
        lambda: SANE_ID.fullmatch(kind),
    ):
        with contextlib.suppress(Refusal):
            work()
    with contextlib.suppress(ValueError):
        is_public(address)


def _allowed(url: str) -> None:
    address = _fetcher()._allowed(url)
    assert address.authority == "photos.example.com"
    assert address.target.startswith("/")
    assert not set(address.target) & set(" \r\n")


@cache
def _fetcher() -> Fetcher:
    return Fetcher(["photos.example.com"], SECONDS)


def _fetched(data: bytes) -> None:
    """What the host of an address answers."""
    loop = _loop()
    reader = asyncio.StreamReader(loop=loop)
    reader.feed_data(data)
    reader.feed_eof()
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    body = loop.run_until_complete(
        asyncio.wait_for(answered_body(connection, reader, HERE, MOST), SECONDS)
    )
    assert len(body) <= MOST


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


class Connection(asyncio.Transport):
    """The other side of a connection: keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"socket": socket.socket(), "sockname": ("127.0.0.1", 1)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    abort = write_eof = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def _connection(data: bytes) -> None:
    """The whole server, from the bytes on a connection to its answer."""
    with contextlib.redirect_stdout(io.StringIO()) as log:
        written = _loop().run_until_complete(asyncio.wait_for(_exchange(data), SECONDS))
    assert not written or written.startswith(b"HTTP/1.1 "), written[:200]
    for line in map(json.loads, log.getvalue().splitlines()):
        assert line["event"] != "fault", line
        assert line.get("status", 200) < 500, line


async def _exchange(data: bytes) -> bytes:
    state, transport = ServerState(), Connection()
    own = transport.get_extra_info("socket")
    try:
        protocol = guarded_protocol(SECONDS)(_config(), state, {}, asyncio.get_running_loop())
        protocol.connection_made(transport)
        for start in range(0, len(data), 1500):
            protocol.data_received(data[start : start + 1500])
        protocol.eof_received()
        while state.tasks:
            await asyncio.wait(state.tasks, timeout=SECONDS)
        protocol.connection_lost(None)
        return bytes(transport.written)
    finally:
        own.close()


@cache
def _config() -> uvicorn.Config:
    predictor = Predictor.load(make_bundle(scratch() / "served"), threads=1)
    settings = ServeSettings(workers=1, threads=1, url_hosts=["photos.example.com"])
    service = Service(predictor, predictor, settings)
    service.health.answered()
    app = make_app(service)
    return uvicorn.Config(
        app,
        interface="asgi3",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
    )


def _photo(kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    photo("red", 20, 18).save(file, kind)
    return file.getvalue()


def _body_seeds() -> list[bytes]:
    text = base64.b64encode(b"photo").decode()
    one, other = {"image": text}, {"url": "https://photos.example.com/a.jpg"}
    bodies = [one, other, {"instances": [one, other]}, {"image": f"data:image/png;base64,{text}"}]
    return [json.dumps(each).encode() for each in bodies]


def _posts() -> list[bytes]:
    def post(body: bytes, kind: bytes, path: bytes = b"/invocations", more: bytes = b"") -> bytes:
        head = b"POST %s HTTP/1.1\r\nHost: here\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n"
        return head % (path, kind, more, len(body)) + body

    text = json.dumps({"image": base64.b64encode(_photo("WEBP")).decode()}).encode()
    chunked = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = [b"GET %s HTTP/1.1\r\nHost: here\r\n\r\n" % path for path in PATHS]
    found += [
        post(_photo("WEBP"), b"image/webp"),
        post(text, b"application/json", more=b"Accept: text/csv;q=0.5, */*\r\n"),
        post(b'{"instances": [%s, %s]}' % (text, text), b"application/json"),
        post(_photo("WEBP"), b"image/webp", b"/explain?label=red"),
        chunked + b"5\r\nphoto\r\n0\r\n\r\n",
        found[0] * 3,
        b"HEAD /ping HTTP/1.0\r\n\r\n",
    ]
    return found


PATHS = (b"/ping", b"/", b"/metrics", b"/execution-parameters", b"/invocations", b"/%2e%2e?x=%zz")
TOKENS = (
    *("\r\n", "\r\n\r\n", ": ", ":", ";q=0.1", ",", "*/*", "application/json", "text/csv", "q=nan"),
    *(
        "image/png",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue",
    ),
    *(
        "Connection: close\r\n",
        "Upgrade: websocket\r\n",
        "HTTP/1.1",
        "HTTP/2",
        "GET ",
        "POST ",
        "0\r\n",
    ),
    *(
        "https://",
        "@",
        "[::1]",
        "169.254.169.254",
        "%00",
        "#",
        "?",
        "\0",
        "\x7f",
        "..",
        "X-Request-Id: a",
    ),
    *(
        "::ffff:10.0.0.1",
        "0x7f.1",
        "photos.example.com",
        ":99999",
        "%25",
        "Accept: ",
        "\t",
        "/ping",
    ),
)
change_text = change_words(TOKENS)
HEADER_SEEDS = (
    (b"text/csv;q=0.3, application/json;q=0.9", b"image/jpeg; x=y"),
    (b"*/*", b"application/json", b"https://photos.example.com/a.jpg?x=1", b"8.8.8.8"),
    (b"text/*;q=1", b"", b"http://photos.example.com", b"2001:db8::1%eth0"),
)
ANSWER_SEEDS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nphoto",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nphoto\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nphoto",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)
TARGETS = {
    "requests.body": Target(_body, _body_seeds, (Refusal,), change_json),
    "requests.headers": Target(
        _headers, lambda: [joined(*parts) for parts in HEADER_SEEDS], (), change_text
    ),
    "requests.answer": Target(
        _fetched,
        lambda: [*ANSWER_SEEDS],
        (Refusal, h11.RemoteProtocolError),
        change_text,
    ),
    "requests.connection": Target(_connection, _posts, (), change_text),
}

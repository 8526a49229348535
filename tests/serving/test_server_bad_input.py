"""Whatever is sent, the answer is 4xx with a reason."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from bundles import photo
from serving.servers import Server, request, serving
from serving.test_server import encoded

JSON = {"Content-Type": "application/json"}
GOOD = encoded(photo("red"))
PICKLE = b"cos\nsystem\n(S'touch pickled'\ntR."


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    guard = tmp_path_factory.mktemp("guard") / "forbidden.txt"
    with serving(bundle, guard=guard) as running:
        yield running
        assert running.label(GOOD).json["label"] == "red"
    assert not guard.exists(), guard.read_text()
    assert [line for line in running.lines if line["event"] == "fault"] == []


def a_jpeg_of_many_scans() -> bytes:
    body = encoded(photo("red", 64, 64), "JPEG", progressive=True)
    start = body.rindex(b"\xff\xda")
    return body[:start] + 200 * body[start:-2] + b"\xff\xd9"


def a_bomb() -> bytes:
    """A PNG of 400 megapixels in 50 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    side = (20_000).to_bytes(4, "big")
    rows = zlib.compress(bytes(20_000 * 2_501), 9)
    header = chunk(b"IHDR", side + side + b"\x01\x00\x00\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b"no photo", "not an image of a known format"),
        (GOOD[:-100], "truncated"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
        (b"\x93NUMPY\x01\x00" + PICKLE, "not an image of a known format"),
        (PICKLE, "not an image of a known format"),
        (a_bomb(), "400000000 pixels"),
        (a_jpeg_of_many_scans(), "more than 100 scans"),
        (encoded(Image.new("RGB", (2000, 10)), "PNG"), "too thin"),
    ],
    ids=["empty", "text", "cut", "svg", "npy", "pickle", "bomb", "scans", "thin"],
)
def test_what_is_no_photo_is_refused_with_the_reason(
    server: Server, body: bytes, reason: str
) -> None:
    answer = server.label(body)
    assert (answer.status, reason in answer.error) == (400, True), answer.error


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the body is empty"),
        ("{", "the body is no JSON"),
        ('{"image": NaN}', "NaN is no JSON value"),
        ("[" * 100_000, "too many values"),
        ('{"a":' * 400 + "1" + "}" * 400, "the body must be"),
        ("9" * 10_000, "the body is no JSON"),
        ("[]", "the body must be"),
        ('{"image": 7}', "the body must be"),
        ('{"image": ""}', "the body is empty"),
        ('{"image": "****"}', "the body is no base64"),
        ('{"image": "\\ud800"}', "the body is no base64"),
        ('{"image": "bm8gcGhvdG8="}', "not an image of a known format"),
        ('{"path": "/etc/passwd"}', "the body must be"),
        ('{"url": "file:///etc/passwd"}', "photos by URL are off"),
        ('{"instances": []}', "a list of 1 to 64 photos"),
        ('{"instances": [{"image": "AA=="}, 7]}', "instance 1 must be"),
        (b'{"image": "\xff"}', "the body is no JSON"),
    ],
)
def test_json_of_no_meaning_is_refused(server: Server, content: str | bytes, reason: str) -> None:
    answer = server.ask("POST", "/invocations", content, JSON)
    assert (answer.status, reason in answer.error) == (400, True), answer.error


@pytest.mark.parametrize(
    "kind", ["application/x-npy", "application/x-pickle", "text/plain", "multipart/form-data", "x"]
)
def test_other_types_are_not_supported(server: Server, kind: str) -> None:
    answer = server.ask("POST", "/invocations", PICKLE, {"Content-Type": kind})
    assert (answer.status, f"content type {kind} is not served" in answer.error) == (415, True)


def test_a_wrong_image_type_does_no_harm(server: Server) -> None:
    for kind in ("image/png", "image/tiff", "application/octet-stream", "application/x-image"):
        answer = server.ask("POST", "/invocations", GOOD, {"Content-Type": kind})
        assert answer.json["label"] == "red"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /ping HTTP/9.9\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\n\r\n", 400),
        (b"GET /p ing HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /ping HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 10_000 + b"\r\n", 431),
        (request(GOOD, "Content-Length: 5"), 400),
        (request(GOOD, "Transfer-Encoding: chunked"), 400),
        (request(GOOD, "Transfer-Encoding: chunked, identity"), 400),
        (request(GOOD, "Transfer-Encoding : chunked"), 400),
        (request(b"", length=-1), 400),
        (request(b"5\r\nhello\r\nxyz\r\n", "Transfer-Encoding: chunked"), 400),
        (request(GOOD, "Header\x00: a"), 400),
        (request(GOOD[:20], length=40), 400),
        (b"GET /pi", 400),
    ],
)
def test_what_is_no_http_is_refused(server: Server, sent: bytes, status: int) -> None:
    with server.connection() as raw:
        raw.sendall(sent)
        raw.shutdown(1)
        found = b"".join(iter(lambda: raw.recv(65_536), b""))
    head, _, body = found.partition(b"\r\n\r\n")
    assert int(head.split(b" ")[1]) == status, found
    # One answer: nothing after the refused request is taken for another.
    assert json.loads(body)["error"]
    assert b"connection: close" in head.lower()


def test_smuggled_requests_are_not_answered(server: Server) -> None:
    inner = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    found = server.raw(request(b"0\r\n\r\n" + inner, "Transfer-Encoding: chunked"))
    assert found is not None
    assert found.status == 400
    assert "contradict each other" in found.error


def test_base64_of_a_bomb(server: Server) -> None:
    sent = json.dumps({"image": base64.b64encode(a_bomb()).decode()})
    answer = server.ask("POST", "/invocations", sent, JSON)
    assert (answer.status, "pixels" in answer.error) == (400, True)
    assert server.memory()["VmHWM"] < 350

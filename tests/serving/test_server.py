"""A bundle answers over HTTP as the predictor does, in every format and form that is promised."""

from __future__ import annotations

import base64
import http.client
import json
import re
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundles import LABELS, make_bundle, photo
from sagelight.serving.predictor import Predictor
from serving.servers import JPEG, Server, received, request, serving

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    guard = tmp_path_factory.mktemp("guard") / "forbidden.txt"
    with serving(bundle, "top_k=2", guard=guard) as running:
        yield running
    assert not guard.exists(), guard.read_text()
    assert running.errors == [f"http://127.0.0.1:{running.port}/ answers until Ctrl-C\n"]


def encoded(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def as_json(photo: bytes) -> dict[str, str]:
    return {"image": base64.b64encode(photo).decode()}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("colour", LABELS)
def test_every_format_is_labelled_by_its_bytes(server: Server, kind: str, colour: str) -> None:
    answer = server.label(encoded(photo(colour), kind))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["label"] == colour
    assert answer.json["top"][0] == {"label": colour, "confidence": answer.json["confidence"]}
    assert len(answer.json["top"]) == 2


def test_probabilities_are_those_of_the_predictor(server: Server, bundle: Path) -> None:
    predictor = Predictor.load(bundle, threads=1)
    rng = np.random.default_rng(0)
    for number in range(40):
        size = rng.integers(17, 90, 2)
        picture = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        body = encoded(picture, FORMATS[number % len(FORMATS)])
        expected = predictor.probabilities(predictor.spec.preprocessing(body)[np.newaxis])[0]
        answer = server.label(body).json
        assert answer["probabilities"] == pytest.approx(expected.tolist(), abs=1e-6)
        assert answer["confidence"] == max(answer["probabilities"])


def test_the_first_frame_of_an_animation_is_labelled(server: Server) -> None:
    frames = [photo("green"), photo("red"), photo("red")]
    body = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert server.label(body).json["label"] == "green"


def test_csv_is_one_line(server: Server) -> None:
    answer = server.label(encoded(photo("red")), Accept="text/csv")
    assert answer.headers["content-type"].startswith("text/csv")
    label, confidence, second, _ = answer.body.decode().strip().split(",")
    assert (label, second in LABELS) == ("red", True)
    assert float(confidence) > 0.5


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv, application/json;q=0.5", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.1, */*", "application/json"),
        ("image/png, */*;q=0.1", "application/json"),
        ("", "application/json"),
    ],
)
def test_accept_is_weighed(server: Server, accept: str, kind: str) -> None:
    answer = server.label(encoded(photo("red")), Accept=accept)
    assert answer.headers["content-type"].split(";")[0] == kind


def test_an_answer_of_another_kind_is_not_acceptable(server: Server) -> None:
    for accept in ("image/png", "application/json;q=0", "text/html;q=x"):
        answer = server.label(encoded(photo("red")), Accept=accept)
        assert answer.status == 406
        assert "application/json or text/csv" in answer.error


def test_base64_in_json(server: Server) -> None:
    body = encoded(photo("blue"))
    answer = server.ask("POST", "/invocations", json.dumps(as_json(body)), JSON)
    assert answer.json == server.label(body).json
    wrapped = {"image": "data:image/jpeg;base64," + base64.encodebytes(body).decode()}
    assert server.ask("POST", "/invocations", json.dumps(wrapped), JSON).json == answer.json


def test_several_photos_in_one_request(server: Server) -> None:
    colours = ["red", "blue", "blue", "green"]
    sent = json.dumps({"instances": [as_json(encoded(photo(colour))) for colour in colours]})
    answer = server.ask("POST", "/invocations", sent, JSON)
    assert [entry["label"] for entry in answer.json["predictions"]] == colours
    lines = server.ask("POST", "/invocations", sent, JSON | {"Accept": "text/csv"}).body.decode()
    assert [line.split(",")[0] for line in lines.splitlines()] == colours


def test_a_bad_photo_among_several_is_named(server: Server) -> None:
    sent = {"instances": [as_json(encoded(photo("red"))), as_json(b"no photo")]}
    answer = server.ask("POST", "/invocations", json.dumps(sent), JSON)
    assert answer.status == 400
    assert answer.error.startswith("instance 1: no photo: ")


def test_photos_that_are_too_large_together_are_refused(server: Server) -> None:
    flat = as_json(encoded(Image.new("RGB", (4_000, 5_000)), "PNG"))
    answer = server.ask("POST", "/invocations", json.dumps({"instances": 3 * [flat]}), JSON)
    assert (answer.status, "60.0 megapixels" in answer.error) == (413, True)


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Amzn-SageMaker-Inference-Id"])
def test_a_request_keeps_its_name(server: Server, name: str) -> None:
    answer = server.ask("POST", "/invocations", encoded(photo("red")), JPEG | {name: "walk-17.a"})
    assert answer.headers["x-request-id"] == "walk-17.a"
    line = server.line("request", id="walk-17.a")
    assert (line["status"], line["path"], line["method"]) == (200, "/invocations", "POST")
    assert line["bytes"] == len(encoded(photo("red")))
    assert 0 < line["model_ms"] <= line["milliseconds"]


def test_a_name_that_would_spoil_the_log_is_replaced(server: Server) -> None:
    for given in ("x" * 200, 'a"b', "a b", ""):
        answer = server.label(encoded(photo("red")), X_Request_Id=given)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_body_in_chunks(server: Server) -> None:
    body = encoded(photo("green"))
    pieces = (body[start : start + 100] for start in range(0, len(body), 100))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/invocations", pieces, JPEG, encode_chunked=True)
    assert json.loads(connection.getresponse().read())["label"] == "green"
    connection.close()


def test_a_connection_serves_many_requests_also_after_a_refusal(server: Server) -> None:
    body = encoded(photo("green"))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for path, status in [("/invocations", 200), ("/nowhere", 404), ("/invocations", 200)]:
        connection.request("POST", path, body, JPEG)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
    connection.close()


def test_no_answer_waits_for_the_receipt_of_its_headers(server: Server) -> None:
    """Without TCP_NODELAY, each but the first few would take 40 ms more: 2.5 seconds and above."""
    body = encoded(photo("green"))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    started = time.monotonic()
    for _ in range(60):
        connection.request("POST", "/invocations", body, JPEG)
        connection.getresponse().read()
    assert time.monotonic() - started < 2
    connection.close()


def test_requests_sent_ahead_are_answered_in_order(server: Server) -> None:
    colours = ["red", "green", "blue"]
    sent = [request(encoded(photo(colour))) for colour in colours]
    sent[-1] = request(encoded(photo(colours[-1])), "Connection: close")
    with server.connection() as raw:
        raw.sendall(b"".join(sent))
        found = b"".join(iter(lambda: raw.recv(65_536), b""))
    assert re.findall(rb'\{"label": "(\w+)", "confidence": [\d.]+, "top"', found) == [
        colour.encode() for colour in colours
    ]


def test_who_only_listens_after_sending_is_answered(server: Server) -> None:
    with server.connection() as raw:
        raw.sendall(request(encoded(photo("red"))))
        raw.shutdown(1)
        answer = received(raw)
    assert answer is not None
    assert answer.json["label"] == "red"


def test_ping_and_what_batch_transform_asks(server: Server) -> None:
    assert server.ask("GET", "/ping").json == {"status": "healthy"}
    head = server.ask("HEAD", "/ping")
    assert (head.status, head.body) == (200, b"")
    parameters = server.ask("GET", "/execution-parameters").json
    assert parameters["BatchStrategy"] == "SINGLE_RECORD"
    assert parameters["MaxPayloadInMB"] == 6
    assert 1 <= parameters["MaxConcurrentTransforms"] <= 100 // 6


def test_other_methods_and_paths_are_refused(server: Server) -> None:
    answer = server.ask("GET", "/invocations")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert answer.error == "/invocations answers POST, not GET."
    assert server.ask("DELETE", "/ping").headers["allow"] == "GET, HEAD"
    for path in ("/ping/", "//ping", "/invocations/../ping", "/%2e%2e/etc/passwd", "/static"):
        answer = server.ask("GET", path)
        assert (answer.status, "location" in answer.headers) == (404, False)


def test_metrics_count(server: Server) -> None:
    def counted(line: str) -> float:
        text = server.ask("GET", "/metrics").body.decode()
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    names = [
        'sagelight_requests_total{code="200",route="/invocations"}',
        'sagelight_requests_total{code="400",route="/invocations"}',
        "sagelight_decoding_seconds_count",
        "sagelight_model_seconds_count",
        "sagelight_batch_size_sum",
    ]
    before = [counted(name) for name in names]
    server.label(encoded(photo("red")))
    server.label(b"no photo")
    after = [counted(name) for name in names]
    assert [late - early for early, late in zip(before, after, strict=True)] == [1, 1, 1, 1, 1]
    assert counted("process_resident_memory_bytes") > 2**20
    assert counted("sagelight_requests_in_hand") == 0


def test_the_page_asks_nothing_of_others(server: Server) -> None:
    answer = server.ask("GET", "/")
    assert answer.status == 200
    page, policy = answer.body.decode(), answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "3 labels: blue, green, red." in page
    assert re.findall(r"(?:src|href)=\"?([^\s\">]+)", page) == ["data:,"]
    assert not re.search(r"\{(title|about|explain|most|address|style|script)\}", page)


def test_names_in_the_page_are_text(tmp_path: Path) -> None:
    labels = ["<script>alert(1)</script>", "{script}"]
    with serving(make_bundle(tmp_path / "bundle", labels), "explain=false") as server:
        page = server.ask("GET", "/").body.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;, {script}." in page
        assert page.count("<script>") == 1
        assert server.ask("POST", "/explain", b"", JPEG).status == 404


def test_a_heat_map_is_a_picture_of_the_square_that_the_network_sees(server: Server) -> None:
    answer = server.ask("POST", "/explain?label=red", encoded(photo("red")), JPEG)
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(BytesIO(answer.body)).size == (16, 16)
    assert server.ask("POST", "/explain?label=nobody", encoded(photo("red")), JPEG).status == 400
    assert server.ask("POST", "/explain", b"no photo", JPEG).status == 400
    assert server.ask("POST", "/explain", b"{}", JSON).status == 415


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/%2e%2e/page.py", "//etc/passwd", "/page.css", "/bundle.json", "/.env"])  # fmt: skip
def test_no_file_is_served(server: Server, path: str) -> None:
    answer = server.ask("GET", path)
    assert (answer.status, answer.headers["x-content-type-options"]) == (404, "nosniff")


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"Host": "evil.example"}, "evil.example"),
        ({"Origin": "https://evil.example"}, "https://evil.example"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/ping", "/metrics", "/invocations"])
def test_a_page_of_somebody_else_is_not_answered(
    server: Server, path: str, headers: dict[str, str], name: str
) -> None:
    method, body = ("POST", encoded(photo("red"))) if path == "/invocations" else ("GET", b"")
    answer = server.ask(method, path, body, JPEG | headers)
    assert answer.status == 403
    assert f"and not a page of {name}. If a proxy asks under that name" in answer.error
    assert not [header for header in answer.headers if header.startswith("access-control")]


def test_a_proxy_may_ask_under_its_name_and_other_machines_under_any(bundle: Path) -> None:
    proxied = {"Host": "photos.example.com", "Origin": "https://photos.example.com"}
    with serving(bundle, "names=[photos.example.com]") as server:
        assert (
            server.ask("POST", "/invocations", encoded(photo("red")), JPEG | proxied).status == 200
        )
    with serving(bundle, "host=0.0.0.0") as server:
        assert (
            server.ask("POST", "/invocations", encoded(photo("red")), JPEG | proxied).status == 200
        )

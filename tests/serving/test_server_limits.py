"""What a server does when it is asked too much, too slowly, or to stop; and what keeps it from starting."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bundles import LABELS, photo
from sagelight.bundle.spec import FORMAT_VERSION
from sagelight.cli import main
from serving.servers import Server, received, request, serving
from serving.test_server import encoded
from stories.commands import refused

BODY = encoded(photo("red"))


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Server]:
    """A server of little patience."""
    with serving(
        bundle, "queue=2", "receive_seconds=0.6", "max_body_bytes=100000", "max_megapixels=1"
    ) as running:
        yield running


def slow(folder: Path, bundle: Path, products: int = 6) -> Path:
    """A bundle whose network multiplies large matrices for some tenths of a second."""
    shutil.copytree(bundle, folder)
    graph = onnx.load(folder / "model.onnx")
    nodes = graph.graph.node
    softmax = nodes.pop()
    large = np.random.default_rng(0).normal(0, 0.02, (1024, 1024)).astype(np.float32)
    # It begins with something of the photo: what is constant would be computed beforehand.
    made = [
        helper.make_node("ReduceMean", ["scores"], ["one"], keepdims=0),
        helper.make_node("Add", ["large", "one"], ["product0"]),
    ]
    for number in range(products):
        pair = [f"product{number}", "large"]
        made.append(helper.make_node("MatMul", pair, [f"product{number + 1}"]))
    made += [
        helper.make_node("ReduceMax", [f"product{products}"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nothing"], ["little"]),
        helper.make_node("Add", ["scores", "little"], ["final"]),
        helper.make_node("Softmax", ["final"], list(softmax.output), axis=1),
    ]
    nodes.extend(made)
    constants = {"large": large, "nothing": np.float32(1e-30)}
    graph.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    onnx.save(graph, folder / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def slow_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return slow(tmp_path_factory.mktemp("slow") / "bundle", bundle)


def test_more_requests_than_fit_are_told_to_come_again(slow_bundle: Path) -> None:
    words = ("queue=2", "batch_size=1", "threads=1", "workers=1")
    with serving(slow_bundle, *words) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: server.label(BODY), range(8)))
        served = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status != 200]
        assert all(answer.json["label"] == "red" for answer in served)
        assert len(served) >= 2
        assert len(refused) >= 1
        for answer in refused:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.error == "2 requests are in hand already. Try again in a second."
        assert server.label(BODY).status == 200


def test_what_the_network_has_in_hand_is_answered_before_the_end(slow_bundle: Path) -> None:
    server = Server(slow_bundle, "batch_size=1", "threads=1", "workers=1")
    server.ready()
    with server.connection() as first, server.connection() as second:
        first.sendall(request(BODY))
        second.sendall(request(BODY))
        deadline = time.monotonic() + 10
        while b"sagelight_requests_in_hand 2.0" not in server.ask("GET", "/metrics").body:
            assert time.monotonic() < deadline
        assert server.stop() == 0
        answers = [received(first), received(second)]
    assert [answer and answer.status for answer in answers] == [200, 200]


def test_a_network_that_takes_too_long_is_unhealthy_until_it_answers(slow_bundle: Path) -> None:
    words = ("timeout_seconds=0.05", "batch_size=1", "threads=1", "workers=1")
    with serving(slow_bundle, *words) as server:
        answer = server.label(BODY)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.error == "no answer within 0.05 seconds. Try again later."
        assert server.ask("GET", "/ping").error == "the network took too long to answer"
        server.ready()


def test_slow_senders_take_no_place(server: Server) -> None:
    with server.connection() as first, server.connection() as second:
        first.sendall(request(BODY)[:-9])
        second.sendall(request(BODY)[:-9])
        assert [server.label(BODY).status for _ in range(5)] == [200] * 5


@pytest.mark.parametrize("kept", [10, 150, 185])
def test_what_comes_too_slowly_is_given_up(server: Server, kept: int) -> None:
    with server.connection() as raw:
        raw.sendall(request(BODY)[:kept])
        started = time.monotonic()
        answer = received(raw)
    assert answer is not None
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert "did not arrive within 0.6 seconds" in answer.error
    assert time.monotonic() - started < 5


def test_dripping_headers_win_no_time(server: Server) -> None:
    started = time.monotonic()
    with server.connection() as raw:
        raw.sendall(b"GET /ping HTTP/1.1\r\n")
        send_until_closed(raw, b"A: b\r\n")
    assert time.monotonic() - started < 6


def send_until_closed(raw: socket.socket, drop: bytes) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            raw.sendall(drop)
        except OSError:
            return
        time.sleep(0.05)


def test_a_silent_connection_is_closed(server: Server) -> None:
    with server.connection() as raw:
        assert raw.recv(1) == b""


def test_a_refused_body_that_never_ends_is_not_read_for_ever(server: Server) -> None:
    started = time.monotonic()
    with server.connection() as raw:
        raw.sendall(request(b"", length=10**12))
        answer = received(raw)
        assert answer is not None
        assert answer.status == 413
        send_until_closed(raw, bytes(1000))
    assert time.monotonic() - started < 6


def test_too_many_bytes(server: Server) -> None:
    answer = server.label(bytes(100_001))
    assert answer.status == 413
    assert "larger than 100,000 bytes" in answer.error
    chunks = iter([bytes(60_000), bytes(60_000)])
    assert server.ask("POST", "/invocations", chunks, {"Content-Type": "image/png"}).status == 413  # type: ignore[arg-type]


def test_leave_to_send_is_refused_at_once(server: Server) -> None:
    with server.connection() as raw:
        raw.sendall(request(b"", "Expect: 100-continue", length=100_001))
        answer = received(raw)
    assert answer is not None
    assert (answer.status, answer.headers["connection"]) == (413, "close")


def test_too_many_pixels(server: Server) -> None:
    flat = encoded(Image.new("RGB", (1001, 1000)), "PNG")
    answer = server.label(flat)
    assert answer.status == 413
    assert "this counts as 1.0 megapixels" in answer.error
    assert server.label(encoded(Image.new("RGB", (1000, 1000)), "PNG")).status == 200
    assert server.label(encoded(Image.new("RGBA", (800, 800)), "PNG")).status == 413


def test_photos_by_url_are_off(server: Server) -> None:
    sent = json.dumps({"url": f"http://127.0.0.1:{server.port}/"})
    answer = server.ask("POST", "/invocations", sent, {"Content-Type": "application/json"})
    assert answer.status == 400
    assert "url_hosts=[HOST,...]" in answer.error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_hand_is_answered_before_the_end(bundle: Path, number: int) -> None:
    server = Server(bundle)
    server.ready()
    with server.connection() as raw, server.connection() as idle:
        raw.sendall(request(BODY)[:-9])
        idle.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received(idle)
        server.process.send_signal(number)
        server.line("stopping")
        until_refused(server.port)
        raw.sendall(request(BODY)[-9:])
        answer = received(raw)
    assert answer is not None
    assert answer.json["label"] == "red"
    assert server.stop() == 0
    assert server.lines[-1]["event"] == "stopped"
    assert [line for line in server.errors if "Traceback" in line] == []


def until_refused(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return
        time.sleep(0.02)
    raise AssertionError("the port is still open")


def test_many_at_once_share_batches(bundle: Path) -> None:
    with serving(bundle, "batch_size=4") as server:
        found: list[tuple[str, str]] = []

        def ask(colour: str) -> None:
            for _ in range(5):
                found.append((colour, server.label(encoded(photo(colour))).json["label"]))

        threads = [threading.Thread(target=ask, args=(LABELS[n % 3],)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 60
        assert all(sent == answered for sent, answered in found)
        text = server.ask("GET", "/metrics").body.decode()
    facts = dict(line.split(" ") for line in text.splitlines() if not line.startswith("#"))
    # 60 photos and the first inference, before which /ping was unhealthy.
    assert float(facts["sagelight_batch_size_sum"]) >= 61
    assert float(facts['sagelight_batch_size_bucket{le="4.0"}']) == float(
        facts["sagelight_batch_size_count"]
    )


def failing_on_white(folder: Path, bundle: Path) -> Path:
    """A bundle whose network answers, unless the photo is white: then it fails."""
    shutil.copytree(bundle, folder)
    nodes = [
        helper.make_node("Cast", ["images"], ["whole"], to=TensorProto.INT64),
        helper.make_node("ReduceMin", ["whole", "axes"], ["darkest"], keepdims=0),
        helper.make_node("Div", ["darkest", "white"], ["row"]),
        helper.make_node("Gather", ["rows", "row"], ["probabilities"]),
    ]
    constants = {
        "axes": np.array([1, 2, 3]),
        "white": np.array(255),
        "rows": np.full((1, 3), 1 / 3, np.float32),
    }
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, 16, 16])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "failing", [images], [answer], initial)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "model.onnx")
    return folder


def test_ping_tells_when_the_network_fails_and_when_it_is_well_again(
    bundle: Path, tmp_path: Path
) -> None:
    with serving(failing_on_white(tmp_path / "failing", bundle)) as server:
        assert server.label(BODY).status == 200
        answer = server.label(encoded(Image.new("RGB", (20, 20), "white"), "PNG"))
        assert answer.status == 500
        assert answer.error.startswith("the network failed: ")
        assert "Traceback" not in answer.error
        sick = server.ask("GET", "/ping")
        assert (sick.status, "indices element out of data bounds" in sick.error) == (503, True)
        server.ready(5)


def test_a_damaged_or_newer_bundle_opens_no_port(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], free_port: int
) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "broken"))
    words = ("serve", f"bundle={folder}", f"port={free_port}")
    facts = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(facts | {"format_version": FORMAT_VERSION + 1}))
    assert f"has format version {FORMAT_VERSION + 1}; this sagelight reads" in refused(
        capsys, *words
    )
    shutil.copy(bundle / "bundle.json", folder)
    (folder / "model.onnx").write_bytes(b"x")
    assert "model.onnx is damaged" in refused(capsys, *words)
    assert "is no bundle" in refused(capsys, "serve", "bundle=nowhere", f"port={free_port}")
    assert refused(capsys, "serve") == "serve needs bundle. Type serve bundle=DIR port=8080"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port)).close()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_a_taken_port_says_what_to_type(
    bundle: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("serve", f"bundle={bundle}", f"port={server.port}")
    assert refused(capsys, *words) == (
        f"port={server.port} on host=127.0.0.1 cannot be opened: Address already in use. "
        "Type port=0 for any free one."
    )
    assert "host=999.0.0.1 cannot be opened: Name or service not known." in refused(
        capsys, "serve", f"bundle={bundle}", "host=999.0.0.1"
    )
    assert main(["serve", f"bundle={bundle}", "queue=0"]) == 2
    assert main(["serve", f"bundle={bundle}", "port=0", "url_hosts=[a/b]"]) == 2


def test_without_the_extra_it_says_what_to_install(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sagelight.serving.server.command.find_spec", lambda name: None)
    assert refused(capsys, "serve", f"bundle={bundle}") == (
        "starlette is not installed, and serving needs it. Type pip install 'sagelight[serve]'."
    )

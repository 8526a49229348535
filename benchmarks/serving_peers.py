"""Servers of one bundle, each a process group of its own: ours, TorchServe under AWS's toolkit, LitServe."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import requests

ROOT = Path(__file__).resolve().parents[1]
TOOLKITS = ROOT / ".venv-toolkits" / "bin"
PATH = "/invocations"
STARTING = 120.0


@dataclass(frozen=True)
class Memory:
    """Of all processes of a server, in MB: resident, and with shared pages counted once."""

    resident: float
    proportional: float


@dataclass
class Server:
    """A running server; `seconds` is from the start of its process to its first answer."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    seconds: float = field(default=0.0)

    def wait(self, body: bytes, began: float) -> Self:
        """Ask until it answers with a label.

        Raises:
            RuntimeError: it ended, or did not answer within two minutes.
        """
        while time.perf_counter() - began < STARTING:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}")
            if self._answers(body):
                self.seconds = time.perf_counter() - began
                return self
            time.sleep(0.005)
        raise RuntimeError(f"{self.name} gave no answer in {STARTING:g} seconds")

    def _answers(self, body: bytes) -> bool:
        try:
            headers = {"Content-Type": "image/jpeg"}
            url = f"http://127.0.0.1:{self.port}{PATH}"
            return requests.post(url, body, headers=headers, timeout=STARTING).status_code == 200
        except requests.ConnectionError:
            return False

    def pause(self) -> None:
        """Take no more of the processor, while others are measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def memory(self) -> Memory:
        texts = []
        for number in self._members():
            try:
                texts.append(Path(f"/proc/{number}/smaps_rollup").read_text())
            except OSError:
                continue
        return Memory(*(sum(_megabytes(text, name) for text in texts) for name in ("Rss", "Pss")))

    def processor_seconds(self) -> float:
        """Of all its processes since they began; other programs on the machine change it little."""
        ticks = 0
        for number in self._members():
            words = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left of the group."""
        self.resume()
        self._signal(signal.SIGTERM)
        end = time.monotonic() + 20
        while self._members() and time.monotonic() < end:
            self.process.poll()
            time.sleep(0.05)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        for member in self._members():
            try:
                os.kill(member, number)
            except ProcessLookupError:
                continue

    def _members(self) -> list[int]:
        """Every process of the session that this one began, except what has ended."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(path.parent.name))
        return found


def _megabytes(rollup: str, name: str) -> float:
    [line] = [line for line in rollup.splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 1000


@contextmanager
def ours(bundle: Path, scratch: Path, body: bytes) -> Iterator[Server]:
    """As SageMaker starts our image."""
    base = _base(scratch / "ours")
    (base / "model").symlink_to(bundle.resolve())
    port = free_port()
    command = [sys.executable, "-m", "sagelight.container.serve", "serve"]
    variables = {"SAGELIGHT_HOST": "127.0.0.1", **_sagemaker(base, port)}
    with _running("sagelight", port, command, variables, base, body) as server:
        yield server


@contextmanager
def torchserve(
    bundle: Path, scratch: Path, body: bytes, with_torch: bool = False
) -> Iterator[Server]:
    """As AWS's PyTorch inference images start it; `make toolkits` makes its environment, and Java is needed.

    It computes with the bundle's own code, by ONNX Runtime, or `with_torch`, as is usual there.
    """
    name = "TorchServe+torch" if with_torch else "TorchServe"
    base = _base(scratch / name)
    # Without requirements.txt, which the toolkit would install into the environment first.
    shutil.copytree(bundle, base / "model", ignore=shutil.ignore_patterns("requirements.txt"))
    if with_torch:
        code = base / "model" / "code"
        (code / "inference.py").rename(code / "bundle_inference.py")
        shutil.copy(ROOT / "benchmarks" / "serving_torch_handler.py", code / "inference.py")
    port = free_port()
    command = [str(TOOLKITS / "python"), str(ROOT / "benchmarks" / "serving_torchserve.py")]
    variables = {
        "SAGEMAKER_PROGRAM": "inference.py",
        "PATH": f"{TOOLKITS}:{os.environ['PATH']}",
        "LOG_LOCATION": str(base),
        "METRICS_LOCATION": str(base),
        **_sagemaker(base, port),
    }
    with _running(name, port, command, variables, base, body) as server:
        yield server


@contextmanager
def litserve(python: str, bundle: Path, scratch: Path, body: bytes) -> Iterator[Server]:
    base, port = _base(scratch / "litserve"), free_port()
    script = str(ROOT / "benchmarks" / "serving_litserve.py")
    command = [python, script, str(bundle.resolve()), str(port)]
    with _running("LitServe", port, command, {}, base, body) as server:
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _base(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder.resolve()


def _sagemaker(base: Path, port: int) -> dict[str, str]:
    return {"SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_BIND_TO_PORT": str(port)}


@contextmanager
def _running(
    name: str, port: int, command: list[str], variables: dict[str, str], base: Path, body: bytes
) -> Iterator[Server]:
    # How many threads the benchmark itself may have is not their limit.
    plain = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    env = {**plain, "TMPDIR": str(base), **variables}
    with (base / "log.txt").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=env, cwd=base, stdout=log, stderr=log, start_new_session=True
        )
        server = Server(name, port, process)
        try:
            yield server.wait(body, began)
        finally:
            server.stop()

"""One process a peer, of which one runs while the others stand still; round by round, in an order that turns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_gpu import utilisation

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / "peers"
THEIRS = ROOT / ".venv-peers" / "bin" / "python"
TRAINED = ("frozen", "full", "five")
# Loading is soon over.
PIPELINE_EPOCHS = 5
# Pixels of a side where starts are compared: a first batch of usual photos would be mostly arithmetic.
START_SIDE = 64
OURS, BASELINE = "sagelight", "torchvision loop"
IMPORTS = "import torch, torchvision, pytorch_lightning"


@dataclass(frozen=True)
class Kind:
    """A peer that can be started: its file, what it can be measured at, and words that only ours takes."""

    name: str
    file: str
    measures: tuple[str, ...] = ("pipeline", *TRAINED, "start")
    words: tuple[str, ...] = ()
    theirs: bool = False

    def command(self) -> list[str]:
        python = str(THEIRS) if self.theirs else sys.executable
        return [python, str(PEERS / f"{self.file}.py")]


KINDS = (
    Kind(OURS, "ours"),
    # Where photos do not vary their features are computed once: the same command with augment=none.
    Kind("sagelight cached", "ours", ("frozen", "five"), ("augment=none",)),
    Kind(BASELINE, "torchvision_loop"),
    Kind("timm", "timm_loop", theirs=True),
    Kind("fastai", "fastai_learner", theirs=True),
    Kind("transformers", "transformers_trainer", theirs=True),
    Kind("Lightning", "lightning_trainer"),
    Kind("pure step", "pure_step", ("full",)),
)


@dataclass
class Running:
    """A peer's process, which stands still unless it is asked."""

    kind: Kind
    process: subprocess.Popen[str]
    log: Path
    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """Its answer to a task.

        Raises:
            RuntimeError: it ended instead; the end of what it said is told.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._signal(signal.SIGCONT)
        print(json.dumps(task), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        self._signal(signal.SIGSTOP)
        if not line:
            raise RuntimeError(f"{self.kind.name} ended.\n{self._said()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.communicate()

    def _signal(self, number: int) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def _said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


@contextmanager
def running(kinds: Sequence[Kind], scratch: Path, threads: int) -> Iterator[list[Running]]:
    """The peers' processes, each a group of its own, with as many threads for arithmetic."""
    with ExitStack() as stack:
        peers = []
        for kind in kinds:
            log = scratch / f"{kind.name}.log"
            file = stack.enter_context(log.open("w"))
            extra = ["--", *kind.words] if kind.words else []
            process = subprocess.Popen(
                [*kind.command(), *extra],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment(threads),
                cwd=scratch,
                start_new_session=True,
            )
            peers.append(Running(kind, process, log))
            stack.callback(peers[-1].stop)
        yield peers


def environment(threads: int) -> dict[str, str]:
    """The same for all: threads of arithmetic, no way to the network, and our package where it lies."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT / "src"),
    }


def measure(
    peers: Sequence[Running], task: dict[str, Any], measures: Sequence[str], rounds: int
) -> None:
    """Ask every peer for every measure in every round, into `found`; a first, short round is not kept."""
    answered = [name for name in measures if name != "start"]
    for peer in peers:
        for name in [name for name in answered if name in peer.kind.measures][-1:]:
            _ask(peer, task | {"root": task["small"]} | _asked(name) | {"epochs": 1})
    for turn in range(rounds):
        order = [*peers[turn % len(peers) :], *peers[: turn % len(peers)]]
        for name in answered:
            for peer in (each for each in order if name in each.kind.measures):
                answer = _ask(peer, task | _asked(name))
                peer.found.setdefault(name, []).append(answer)
                print(f"  round {turn + 1}: {name:<9}{peer.kind.name:<25}", end="", file=sys.stderr)
                print(f"{answer['processor_seconds']:8.1f} processor s", file=sys.stderr)


def _asked(name: str) -> dict[str, Any]:
    """Five epochs are of the head: those of everything take five times as long as one."""
    if name == "five":
        return {"measure": "frozen", "epochs": 5}
    return {"measure": name, "epochs": PIPELINE_EPOCHS if name == "pipeline" else 1}


def _ask(peer: Running, task: dict[str, Any]) -> dict[str, Any]:
    scratch = Path(task["scratch"])
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    with utilisation() as busy:
        answer = peer.ask({name: value for name, value in task.items() if name != "small"})
    return answer | ({"gpu_utilisation": busy[0]} if busy else {})


def starts(
    peers: Sequence[Running], task: dict[str, Any], rounds: int, threads: int, scratch: Path
) -> list[dict[str, Any]]:
    """Fresh processes up to the first backward of a full training, into `found`; returns those that only import."""
    imports = []
    small = {"root": task["small"], "side": START_SIDE, "measure": "full", "epochs": 1}
    line = json.dumps({k: v for k, v in task.items() if k != "small"} | small)
    for _ in range(rounds):
        imports.append(_fresh([sys.executable, "-c", IMPORTS], threads, scratch))
        for peer in (each for each in peers if "start" in each.kind.measures):
            shutil.rmtree(task["scratch"], ignore_errors=True)
            Path(task["scratch"]).mkdir()
            command = [*peer.kind.command(), line]
            peer.found.setdefault("start", []).append(_fresh(command, threads, scratch))
    return imports


def _fresh(command: list[str], threads: int, scratch: Path) -> dict[str, Any]:
    with (scratch / "start.log").open("w+") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment(threads), cwd=scratch, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{command[1]} failed.\n{log.read()[-2000:]}")
    return {
        "photos": 0,
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
    }

"""Ours against the servers a person would take instead, round by round, and against the network without a server."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from serving_bundle import jpegs, machine, target
from serving_load import Round, load, post
from serving_peers import PATH, TOOLKITS, Server, litserve, ours, torchserve

CLIENTS = (1, 8, 64)
WARMING = 1.0
ALONE = "no server"
# What stands for a server without HTTP: the same photos, decoded and computed in a loop, on as many threads as ours.
IN_PROCESS = """
import json, os, sys, time
from sagelight.container.serve import container_settings
from sagelight.serving.predictor import Predictor
from sagelight.serving.server.settings import shares
predictor = Predictor.load(sys.argv[1], shares(container_settings(os.environ, [])).threads)
photos = [open(path, "rb").read() for path in sys.argv[2:]]
for line in sys.stdin:
    latencies, began = [], time.perf_counter()
    while time.perf_counter() - began < float(line):
        start = time.perf_counter()
        predictor.predict([photos[len(latencies) % len(photos)]])
        latencies.append(time.perf_counter() - start)
    print(json.dumps([time.perf_counter() - began, latencies]), flush=True)
"""


def compare(bundle: Path, options: dict[str, str]) -> dict[str, Any]:
    """Throughput, p50 and p99 of each server at each number of clients, and the ratios with their spread."""
    seconds, rounds = float(options.get("seconds", "4")), int(options.get("rounds", "5"))
    photos = jpegs(bundle, options)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [
            stack.enter_context(start) for start in _peers(bundle, scratch, photos[0], options)
        ]
        for server in servers:
            server.pause()
        alone = stack.enter_context(_alone(bundle, scratch, photos))
        found: dict[str, dict[int, list[Round]]] = {
            server.name: {clients: [] for clients in CLIENTS} for server in servers
        } | {ALONE: {1: []}}
        for number in range(rounds):
            for clients in CLIENTS:
                order = servers[number % len(servers) :] + servers[: number % len(servers)]
                for server in order:
                    found[server.name][clients].append(_measure(server, photos, clients, seconds))
            found[ALONE][1].append(_ask_alone(alone, seconds))
    return _report(found, rounds, seconds)


def _peers(bundle: Path, scratch: Path, body: bytes, options: dict[str, str]) -> list[Any]:
    peers = [ours(bundle, scratch, body)]
    if TOOLKITS.exists():
        peers.append(torchserve(bundle, scratch, body))
        peers.append(torchserve(bundle, scratch, body, with_torch=True))
    if "litserve" in options:
        peers.append(litserve(options["litserve"], bundle, scratch, body))
    return peers


def _measure(server: Server, photos: list[bytes], clients: int, seconds: float) -> Round:
    requests = [post(PATH, photo, "image/jpeg") for photo in photos]
    server.resume()
    load(server.port, requests, clients, WARMING)
    before = server.processor_seconds()
    found = load(server.port, requests, clients, seconds)
    found.processor_seconds = server.processor_seconds() - before
    server.pause()
    return found


def _alone(bundle: Path, scratch: Path, photos: list[bytes]) -> subprocess.Popen[str]:
    paths = [scratch / f"{number}.jpg" for number in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        path.write_bytes(photo)
    words = [sys.executable, "-c", IN_PROCESS, str(bundle), *map(str, paths)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask_alone(process: subprocess.Popen[str], seconds: float) -> Round:
    assert process.stdin is not None
    assert process.stdout is not None
    for duration in (WARMING, seconds):
        print(duration, file=process.stdin, flush=True)
        took, latencies = json.loads(process.stdout.readline())
    return Round(took, latencies)


def _report(
    found: dict[str, dict[int, list[Round]]], rounds: int, seconds: float
) -> dict[str, Any]:
    print(f"{rounds} rounds of {seconds:g} s, {machine()}, {time.strftime('%F %H:%M')}")
    print(
        f"{'server':<17}{'clients':>8}{'photos/s':>10}{'p50 ms':>9}{'p99 ms':>9}  not answered right"
    )
    rows = []
    for name, by_clients in found.items():
        for clients, each in by_clients.items():
            row = _row(name, clients, each)
            rows.append(row)
            figures = f"{row['throughput']:>10.1f}{row['p50_ms']:>9.1f}{row['p99_ms']:>9.1f}{row['processor_ms']:>8.1f}"
            print(f"{name:<17}{clients:>8}{figures}  {row['wrong'] or ''}")
    return {"machine": machine(), "rows": rows, "targets": _targets(found)}


def _row(name: str, clients: int, rounds: list[Round]) -> dict[str, Any]:
    wrong = sum((each.wrong for each in rounds), start=type(rounds[0].wrong)())
    return {
        "server": name,
        "clients": clients,
        "throughput": statistics.median(each.throughput for each in rounds),
        "p50_ms": statistics.median(each.percentile(50) for each in rounds),
        "p99_ms": statistics.median(each.percentile(99) for each in rounds),
        "processor_ms": statistics.median(each.processor_ms for each in rounds),
        "throughputs": [each.throughput for each in rounds],
        "p99s_ms": [each.percentile(99) for each in rounds],
        "wrong": dict(wrong),
    }


def _targets(found: dict[str, dict[int, list[Round]]]) -> list[dict[str, Any]]:
    mine, targets = found["sagelight"], []
    print("\nsagelight over each, median of the rounds' ratios (from lowest to highest)")
    for name in [name for name in found if name not in ("sagelight", ALONE)]:
        for clients in CLIENTS:
            pairs = list(zip(mine[clients], found[name][clients], strict=True))
            faster = [a.throughput / b.throughput for a, b in pairs]
            later = [a.percentile(99) / b.percentile(99) for a, b in pairs]
            print(f"{name}, {clients} clients: throughput {_spread(faster)}, p99 {_spread(later)}")
            if name.startswith("TorchServe"):
                label = f"{name}, {clients} clients"
                targets.append(
                    target(f"throughput over {label}", statistics.median(faster), least=1.5)
                )
                targets.append(target(f"p99 over {label}", statistics.median(later), most=0.7))
    pairs = list(zip(mine[1], found[ALONE][1], strict=True))
    added = [a.percentile(50) - b.percentile(50) for a, b in pairs]
    print(f"over the call without a server, 1 client: p50 {_spread(added)} ms added")
    targets.append(target("ms added at 1 client", statistics.median(added), most=1))
    wrong = sum(sum(each.wrong.values()) for by in mine.values() for each in by)
    targets.append(target("requests not answered right", wrong, most=0))
    return targets


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

"""From the start of the process to the first answer, and how much memory the answer takes."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from serving_bundle import jpegs, machine, target
from serving_load import load, post
from serving_peers import PATH, Memory, Server
from serving_throughput import _peers

MOST_SECONDS, MOST_MEGABYTES = 1.5, 350.0
CLIENTS, SECONDS = 8, 5.0


def cold(bundle: Path, options: dict[str, str]) -> dict[str, Any]:
    """Start each server several times; after its first answer, load it and look at its memory."""
    photos, rounds = jpegs(bundle, options), int(options.get("rounds", "5"))
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            for starting in _peers(bundle, Path(scratch), photos[0], options):
                with starting as server:
                    found.setdefault(server.name, []).append(_start(server, photos))
    print(f"{rounds} starts, {machine()}")
    print(
        f"{'server':<17}{'first answer s':>24}{'MB then':>9}{'MB after load':>15}{'(shared once)':>15}"
    )
    for name, starts in found.items():
        seconds = [start["seconds"] for start in starts]
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        figures = [max(s[key] for s in starts) for key in ("first", "loaded", "proportional")]
        print(f"{name:<17}{spread:>24}{figures[0]:>9.0f}{figures[1]:>15.0f}{figures[2]:>15.0f}")
    mine = found["sagelight"]
    targets = [
        target("seconds to the first answer", statistics.median(s["seconds"] for s in mine), most=MOST_SECONDS),
        target("MB resident after load", max(s["loaded"] for s in mine), most=MOST_MEGABYTES),
    ]  # fmt: skip
    return {"machine": machine(), "starts": found, "targets": targets}


def _start(server: Server, photos: list[bytes]) -> dict[str, float]:
    first = server.memory()
    load(server.port, [post(PATH, photo, "image/jpeg") for photo in photos], CLIENTS, SECONDS)
    loaded: Memory = server.memory()
    return {
        "seconds": server.seconds,
        "first": first.resident,
        "loaded": loaded.resident,
        "proportional": loaded.proportional,
    }

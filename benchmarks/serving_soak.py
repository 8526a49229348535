"""Minutes of good and bad requests: no wrong answer, and no memory that grows."""

from __future__ import annotations

import base64
import json
import statistics
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from serving_bundle import jpegs, machine, target
from serving_load import Request, load, post
from serving_peers import PATH, ours

CLIENTS = 8
MOST_GROWTH = 5.0
# Buffers are kept for the most that ever came together, and chance needs its time to bring that about.
WARMING_SECONDS = 60.0


def soak(bundle: Path, options: dict[str, str]) -> dict[str, Any]:
    """Eight clients for a minute that only warms, then for so many; resident memory every second, in quarters."""
    minutes, photos = float(options.get("minutes", "5")), jpegs(bundle, options)
    requests = [request for photo in photos for request in _mixed(photo)]
    sizes: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, ours(bundle, Path(scratch), photos[0]) as server:
        warmed = load(server.port, requests, CLIENTS, WARMING_SECONDS)
        found = load(
            server.port,
            requests,
            CLIENTS,
            60 * minutes,
            lambda: sizes.append(server.memory().resident),
        )
        assert server.process.poll() is None
    quarter = len(sizes) // 4
    quarters = [statistics.fmean(sizes[n * quarter : (n + 1) * quarter]) for n in range(4)]
    growth = 100 * (quarters[3] / quarters[0] - 1)
    print(f"{minutes:g} minutes, {CLIENTS} clients, {machine()}: {len(found.latencies):,} requests")
    print(f"MB resident by quarter: {', '.join(f'{size:.0f}' for size in quarters)}")
    wrong = dict(found.wrong + warmed.wrong)
    print(f"not answered as they must be: {wrong or 'none'}")
    targets = [
        target("wrong answers", sum(wrong.values()), most=0),
        target("% memory from first to last quarter", growth, most=MOST_GROWTH),
    ]
    return {
        "machine": machine(),
        "minutes": minutes,
        "requests": len(found.latencies),
        "throughput": found.throughput,
        "p99_ms": found.percentile(99),
        "megabytes": sizes,
        "wrong": wrong,
        "targets": targets,
    }


def _mixed(photo: bytes) -> list[Request]:
    """One photo as a JPEG, PNG, WebP, in JSON and as CSV; then what must be refused, and with what."""
    encoded = json.dumps({"image": base64.b64encode(photo).decode()}).encode()
    return [
        post(PATH, photo, "image/jpeg"),
        post(PATH, _as(photo, "PNG"), "image/png", accept="text/csv"),
        post(PATH, _as(photo, "WEBP"), "image/webp"),
        post(PATH, encoded, "application/json"),
        post(PATH, photo[: len(photo) // 2], "image/jpeg", status=400),
        post(PATH, b"no photo", "image/jpeg", status=400),
        post(PATH, b"\x93NUMPY\x01\x00", "application/x-npy", status=415),
        post(PATH, photo, "image/jpeg", accept="image/png", status=406),
        post(PATH, b'{"image": NaN}', "application/json", status=400),
        post("/nowhere", photo, "image/jpeg", status=404),
    ]


def _as(photo: bytes, image_format: str) -> bytes:
    """Half as large, so that decoding does not become what is soaked."""
    buffer = BytesIO()
    with Image.open(BytesIO(photo)) as image:
        image.convert("RGB").reduce(2).save(buffer, image_format)
    return buffer.getvalue()

"""Rows of the load table about photos of 119 and 200 megapixels and a bomb of 0.9 gigapixels.

The largest that is read has 120 million pixels (`sagelight.bundle.preprocessing.MAX_PIXELS`); a server has a smaller
limit of its own, `max_megapixels`. What is larger is refused by its header, before memory is taken for it.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from load_measure import Figures, Row, measured
from PIL import Image

from sagelight.bundle.preprocessing import Preprocessing, UnreadableImageError
from sagelight.data.index import index_images
from sagelight.data.inspect_file import examine

SPEC = Preprocessing(256, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Width and height; the second is what phones of 200 megapixels write.
SHAPES = {"119 MP": (12_600, 9_450), "200 MP": (16_320, 12_240), "0.9 GP": (30_000, 30_000)}


def place(folder: Path, name: str, kind: str, size: float) -> Path:
    return folder / "large" / f"{name.replace(' ', '')}-{size:g}" / "train" / "a" / f"large.{kind}"


def shape(name: str, size: float) -> tuple[int, int]:
    """Of a full table the shapes as they are; what must be refused is as large in a short one."""
    width, height = SHAPES[name]
    shrink = size**0.5 if name == "119 MP" else 1
    return max(300, round(width * shrink)), max(300, round(height * shrink))


def maker(name: str, kind: str) -> Callable[[Path, float], None]:
    def make(folder: Path, size: float) -> None:
        path = place(folder, name, kind, size)
        if path.exists():
            return
        for label in ("a", "b"):
            for split in ("train", "validation", "test"):
                small = path.parents[2] / split / label / f"small.{kind}"
                small.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng(len(split + label)).integers(0, 256, (300, 400, 3))
                Image.fromarray(noise.astype(np.uint8)).save(small)
        width, height = shape(name, size)
        if kind == "png":
            # What is refused by its header needs no more than that in a short table.
            write_png(path, width, height, height if name == "119 MP" else round(height * size))
        else:
            write_jpeg(path, width, height)

    return make


def write_png(path: Path, width: int, height: int, rows: int) -> None:
    """RGB in rows of a gradient, so many of them: megabytes of file for gigabytes of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    row = b"\0" + (np.arange(3 * width) % 251).astype(np.uint8).tobytes()
    packer = zlib.compressobj(1)
    with path.open("wb") as file:
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head))
        for _ in range(rows):
            if packed := packer.compress(row):
                file.write(chunk(b"IDAT", packed))
        file.write(chunk(b"IDAT", packer.flush()) + chunk(b"IEND", b""))


def write_jpeg(path: Path, width: int, height: int) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (8, width), dtype=np.uint8)
    Image.fromarray(np.tile(tile, (-(-height // 8), 1))[:height]).convert("RGB").save(path)


def worker(name: str, kind: str, refused: bool) -> Callable[[Path, float], Figures]:
    """Everything that a photo goes through, one after the other; the memory is that of the hungriest."""

    def work(folder: Path, size: float) -> Figures:
        from sagelight.data.decoding import decode_tensor, decode_view
        from sagelight.data.resized_store import ResizedStore
        from sagelight.data.resizing import resize_photos
        from sagelight.serving.server.decoding import Decoding
        from sagelight.serving.server.refusal import Refusal

        path = place(folder, name, kind, size)
        index = index_images(path.parents[2])
        cache = folder / "large-cache"
        store = ResizedStore(cache, 1e9)
        server = Decoding(SPEC, 2, 120_000_000)
        content = path.read_bytes()
        ways: dict[str, Callable[[], object]] = {
            "quick_check": lambda: examine(path, full=False),
            "full_check": lambda: examine(path, full=True),
            "training": lambda: decode_tensor(path, 224),
            "validation": lambda: decode_view(path, SPEC),
            "prediction": lambda: SPEC(path),
            "cache": lambda: resize_photos(index, SPEC, store),
            "server": lambda: server.decode(content),
        }
        decode_view(path.parent / f"small.{kind}", SPEC)
        figures: Figures = {}
        refusals = 0
        with measured() as whole:
            for way, use in ways.items():
                with measured() as one:
                    try:
                        found = use()
                        refusals += bool(
                            way in ("quick_check", "full_check")
                            and "too_large" in getattr(found, "codes", ())
                        )
                        if way == "cache":
                            refusals += len(found[1]["unreadable"])  # type: ignore[index]
                    except (UnreadableImageError, Refusal):
                        refusals += 1
                figures[f"{way}_seconds"] = one["processor_seconds"]
        shutil.rmtree(cache)
        server.close()
        wrong = refusals != (len(ways) if refused else 0)
        return {**whole, **figures, "wrongly_taken_or_refused": float(wrong)}

    return work


def row(name: str, kind: str, refused: bool, bounds: dict[str, float]) -> Row:
    what = "refused" if refused else "read"
    always = {"wrongly_taken_or_refused": 0.0}
    return Row(
        f"photo: {name} as {kind.upper()}, {what} by check, training, cache, predict and server",
        worker(name, kind, refused),
        {**bounds, **always},
        maker(name, kind),
    )


READ = {"processor_seconds": 90, "megabytes_more": 1700}
REFUSED = {"processor_seconds": 3, "megabytes_more": 100}
ROWS = [
    row("119 MP", "jpg", False, READ),
    row("119 MP", "png", False, READ),
    row("200 MP", "jpg", True, REFUSED),
    row("200 MP", "png", True, REFUSED),
    row("0.9 GP", "png", True, REFUSED),
]

"""Which photo goes into which shard, under which name: decided before the first byte is written."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath

from sagelight.bundle.preprocessing import Preprocessing, UnreadableImageError, decode
from sagelight.data.index import SPLITS, ImageIndex, Sample, file_size

QUALITY = 95
_BLOCK = tarfile.BLOCKSIZE
_TRIED = 64


@dataclass(frozen=True)
class Planned:
    """An archive to be: its file name, and the photos in it in their order.

    Attributes:
        first: number of its first photo among those of its split.
        room: bytes that it takes, estimated where photos are made smaller.
    """

    name: str
    split: str
    samples: tuple[Sample, ...]
    first: int
    room: int

    def key(self, place: int, labels: list[str]) -> str:
        """What WebDataset calls the photo at a place: a path up to the first dot of its last part."""
        label = labels[self.samples[place].target]
        return f"{self.split}/{label}/{self.first + place:08d}"


def plan_shards(index: ImageIndex, most_bytes: int, resize: int | None) -> list[Planned]:
    """Fill archives one after another, each of one split, with about `most_bytes`.

    Training photos come in an order that mixes the classes, so that a few archives are a fair sample of all; it is
    drawn from their names, so it is the same everywhere.
    """
    planned = []
    for split in SPLITS:
        samples = list(index.splits[split])
        if split == "train":
            samples.sort(key=lambda sample: _digest(sample.path))
        size = _sizes(index, samples, resize)
        for number, (first, chosen, room) in enumerate(_filled(samples, size, most_bytes)):
            planned.append(Planned(f"{split}-{number:05d}.tar", split, chosen, first, room))
    return planned


def plan_digest(index: ImageIndex, planned: list[Planned], resize: int | None) -> str:
    """Hex SHA-256 over the photos, where they go, and how they are changed."""
    digest = hashlib.sha256(f"1 {index.fingerprint} {resize} {QUALITY}\n".encode())
    for each in planned:
        for sample in each.samples:
            line = f"{each.name}\0{sample.path}\0{index.labels[sample.target]}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def stored(content: bytes, suffix: str, resize: int | None) -> tuple[bytes, str]:
    """What is stored of a photo, and under which extension.

    Its own bytes, unless its short side has more than `resize` pixels: then a JPEG of it, scaled as evaluation scales.
    Bytes that cannot be decoded stay as they are, for training to meet as it would in a folder.
    """
    extension = suffix.lower().removeprefix(".")
    if resize is None:
        return content, extension
    try:
        image = decode(content)
    except UnreadableImageError:
        return content, extension
    if min(image.size) <= resize:
        return content, extension
    scale = Preprocessing(resize, resize, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).resize
    buffer = BytesIO()
    scale(image).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue(), "jpg"


def read_photo(index: ImageIndex, sample: Sample) -> bytes:
    """The bytes of a photo.

    Raises:
        OSError: it cannot be read.
    """
    content = index.content(sample)
    return content if isinstance(content, bytes) else content.read_bytes()


def member(name: str, size: int) -> bytes:
    """The header of an archive's file, without a time or an owner, so that equal photos give equal archives."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """What follows a file of some bytes up to the next header."""
    return bytes(-size % _BLOCK)


def _sizes(index: ImageIndex, samples: list[Sample], resize: int | None) -> Callable[[Sample], int]:
    if resize is None:
        return lambda sample: _size(index, sample)
    tried = samples[:: max(1, len(samples) // _TRIED)][:_TRIED]
    total = sum(
        len(stored(read_photo(index, s), PurePosixPath(s.path).suffix, resize)[0]) for s in tried
    )
    mean = total // max(1, len(tried))
    return lambda sample: mean


def _size(index: ImageIndex, sample: Sample) -> int:
    if index.shards is not None:
        return int(index.shards.size[index.shards.rows[sample.path]])
    return max(0, file_size(index.root / sample.path))


def _filled(
    samples: list[Sample], size: Callable[[Sample], int], most_bytes: int
) -> Iterator[tuple[int, tuple[Sample, ...], int]]:
    first, chosen, filled = 0, list[Sample](), 2 * _BLOCK
    for sample in samples:
        # Two headers, the photo, and one block for its class.
        taken = 3 * _BLOCK + -(-size(sample) // _BLOCK) * _BLOCK
        if chosen and filled + taken > most_bytes:
            yield first, tuple(chosen), filled
            first, chosen, filled = first + len(chosen), [], 2 * _BLOCK
        chosen.append(sample)
        filled += taken
    if chosen:
        yield first, tuple(chosen), filled


def _digest(path: str) -> bytes:
    return hashlib.sha256(path.encode(errors="surrogateescape")).digest()

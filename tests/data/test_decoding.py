"""Photos are decoded sooner than Pillow does it, to the pixels and refusals that are Pillow's."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sagelight.bundle.preprocessing import FORMATS, Preprocessing, UnreadableImageError, decode
from sagelight.data import decoding
from sagelight.data.augment import least_side
from sagelight.data.decoding import MARGIN, decode_tensor, decode_view
from sagelight.data.settings import AugmentSettings

SPEC = Preprocessing(36, 32, (0.5,) * 3, (0.25,) * 3)
RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (61, 83, 3), dtype=np.uint8))


def encode(image: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def scene(width: int, height: int) -> Image.Image:
    """Something like a photo: shapes of all sizes with sharp edges, and a little noise."""
    rng = np.random.default_rng(width)
    picture = np.full((height, width, 3), 128.0)
    for _ in range(400):
        side = int(8 + min(width, height) * rng.beta(1, 8))
        x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        picture[y : y + side, x : x + side] = rng.integers(20, 236, 3)
    return Image.fromarray((picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype("uint8"))


def oriented(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def photos() -> dict[str, bytes]:
    grey = PICTURE.convert("L")
    by_name = {name: encode(PICTURE, name) for name in (*FORMATS, "MPO")}
    by_name |= {f"turned {n}": encode(PICTURE, exif=oriented(n)) for n in range(1, 9)}
    by_name |= {f"grey turned {n}": encode(grey, exif=oriented(n)) for n in (1, 6)}
    by_name |= {f"png turned {n}": encode(PICTURE, "PNG", exif=oriented(n)) for n in (1, 6)}
    by_name |= {f"png {mode}": encode(PICTURE.convert(mode), "PNG") for mode in ("1", "P", "RGBA")}
    by_name |= {f"chroma {n}": encode(PICTURE, subsampling=n, quality=60) for n in (0, 1, 2)}
    return by_name | {
        "cmyk": encode(PICTURE.convert("CMYK")),
        "rgb inside": encode(PICTURE, keep_rgb=True),
        "progressive": encode(PICTURE, progressive=True),
        "restarts": encode(PICTURE, restart_marker_blocks=2),
        "turned by xmp": encode(PICTURE, xmp=b'<x tiff:Orientation="6"/>'),
        "one pixel": encode(Image.new("RGB", (1, 1))),
        "sixteen bits": encode(Image.fromarray(np.full((40, 50), 40_000, np.uint16)), "PNG"),
    }


@pytest.mark.parametrize("name", photos())
def test_pixels_are_pillows(name: str, tmp_path: Path) -> None:
    content = photos()[name]
    whole = decode_tensor(content)
    assert np.array_equal(whole.permute(1, 2, 0).numpy(), np.asarray(decode(content)))
    assert whole.permute(1, 2, 0).is_contiguous()
    served = torch.from_numpy(SPEC(content)).float()
    difference = (decode_view(content, SPEC).float() - served).abs()
    assert difference.max() <= 1
    assert difference.mean() <= 0.01
    (tmp_path / "photo").write_bytes(content)
    assert torch.equal(decode_tensor(tmp_path / "photo"), whole)


def test_plain_jpegs_are_torchvisions_work_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(content: bytes) -> torch.Tensor:
        raise AssertionError("decoded by torchvision")

    monkeypatch.setattr(decoding, "_decoded", refuse)
    for name, content in photos().items():
        plain = name in ("JPEG", "MPO", "rgb inside", "progressive", "restarts", "one pixel")
        plain |= name.split()[0] in ("turned", "grey", "chroma")
        if plain:
            with pytest.raises(AssertionError):
                decode_tensor(content)
        else:
            decode_tensor(content)


def outcome(read: Any, content: bytes) -> str | NDArray[np.uint8]:
    try:
        return np.asarray(read(content))
    except UnreadableImageError as error:
        return str(error)


@pytest.mark.parametrize("name", ["JPEG", "MPO", "progressive", "chroma 2", "turned 6", "BMP"])
def test_damaged_photos_are_read_or_refused_as_pillow_does(name: str) -> None:
    rng = np.random.default_rng(5)
    good, refused = photos()[name], 0
    for number in range(120):
        content = bytearray(good)
        for place in rng.integers(0, len(content), rng.integers(1, 6)):
            content[place] = rng.integers(0, 256)
        cut = bytes(content[: rng.integers(1, len(content))] if number % 3 == 0 else content)
        ours = outcome(lambda content: decode_tensor(content).permute(1, 2, 0), cut)
        theirs = outcome(decode, cut)
        assert np.array_equal(ours, theirs), number
        viewed = outcome(lambda content: decode_view(content, SPEC), cut)
        assert (viewed == theirs) if isinstance(theirs, str) else not isinstance(viewed, str)
        refused += isinstance(theirs, str)
    assert 0 < refused < 120


@pytest.mark.parametrize("short", [1, 2, 100])
def test_a_cut_off_photo_is_refused_in_pillows_words(short: int) -> None:
    for least in (None, 8):
        with pytest.raises(UnreadableImageError, match="image file is truncated"):
            decode_tensor(encode(scene(400, 300))[:-short], least)
    with pytest.raises(UnreadableImageError, match="No such file"):
        decode_tensor(Path("gone.jpg"))


def test_bombs_are_refused_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(encode(PICTURE))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = (12_000).to_bytes(2, "big") + (10_001).to_bytes(2, "big")
    monkeypatch.setattr(decoding, "_decoded", lambda content: pytest.fail("decoded"))
    with pytest.raises(UnreadableImageError, match="10001 x 12000 pixels are more than 120,000,00"):
        decode_tensor(bytes(content))
    with pytest.raises(UnreadableImageError, match="1 x 101 pixels are too thin"):
        decode_view(encode(Image.new("RGB", (1, 101))), SPEC)


@pytest.mark.parametrize(
    ("least", "size"),
    [(None, (800, 600)), (301, (800, 600)), (300, (400, 300)), (150, (200, 150)), (9, (100, 75))],
)
def test_large_photos_are_decoded_at_a_part_of_their_size(
    least: int | None, size: tuple[int, int]
) -> None:
    for picture in (scene(800, 600), scene(800, 600).convert("L"), scene(800, 600).convert("CMYK")):
        reduced = size if picture.mode != "CMYK" else picture.size
        assert decode_tensor(encode(picture), least).shape == (3, *reduced[::-1])
    turned = decode_tensor(encode(scene(800, 600), exif=oriented(6)), least)
    assert turned.shape == (3, *size)


@pytest.mark.parametrize("number", [1, 3, 6, 8])
@pytest.mark.parametrize(("width", "height"), [(801, 607), (999, 1203), (1600, 1200)])
def test_reduced_views_have_45_decibels(width: int, height: int, number: int) -> None:
    content = encode(scene(width, height), quality=90, exif=oriented(number))
    spec = Preprocessing(100, 96, (0.5,) * 3, (0.25,) * 3)
    assert min(width, height) // 2 >= MARGIN * spec.resize_size
    difference = decode_view(content, spec).float() - torch.from_numpy(spec(content)).float()
    assert difference.abs().max() > 0
    assert 10 * math.log10(255**2 / difference.square().mean()) >= 45


@pytest.mark.parametrize(("scale", "ratio"), [(0.2, 4 / 3), (0.5, 1.15), (1.0, 1.0)])
def test_no_crop_is_enlarged_because_a_photo_was_reduced(scale: float, ratio: float) -> None:
    needed = least_side(AugmentSettings(crop_scale=scale, crop_ratio=ratio), 64)
    # Of a square photo, the smallest crop has this short side.
    assert math.sqrt(needed**2 * scale / ratio) >= 64

"""The pixels that a network sees: torchvision's, from any file, and no pixels from a hostile one."""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from sagelight.bundle.preprocessing import (
    FORMATS,
    PILLOW_IGNORED,
    Preprocessing,
    UnreadableImageError,
    decode,
    ignore_remarks,
    refuse_size,
    upright_rgb,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def spec(resize_size: int, image_size: int) -> Preprocessing:
    return Preprocessing(resize_size, image_size, MEAN, STD)


def encode(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def random_sizes() -> list[tuple[int, int, int, int]]:
    """(width, height, resize_size, image_size): ordinary, extreme, tiny, and crop as large as resize."""
    rng = np.random.default_rng(7)
    ordinary = [(*rng.integers(3, 400, 2), *rng.integers(8, 120, 2)) for _ in range(140)]
    thin = [
        (int(w), int(w * r), 24, 20) for w, r in zip(range(1, 21), range(99, 59, -2), strict=True)
    ]
    flat = [(height, width, *sizes) for width, height, *sizes in thin]
    square = [(side, side, side, side) for side in (8, 31, 64)]
    cases = [*ordinary, *thin, *flat, *square]
    return [(int(w), int(h), int(max(a, b)), int(min(a, b))) for w, h, a, b in cases]


def test_equals_torchvision_bit_for_bit() -> None:
    sizes = random_sizes()
    assert len(sizes) >= 180
    for width, height, resize_size, image_size in sizes:
        image = Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))
        reference = v2.Compose(
            [v2.Resize(resize_size), v2.CenterCrop(image_size), v2.PILToTensor()]
        )
        expected: torch.Tensor = reference(image)
        found = spec(resize_size, image_size)(image)
        assert found.shape == (3, image_size, image_size), (width, height)
        assert np.array_equal(found, expected.numpy()), (width, height, resize_size, image_size)


def test_bytes_paths_and_pictures_give_the_same_pixels(tmp_path: Path) -> None:
    content = encode(PICTURE, "JPEG", exif=oriented(6))
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    steps = spec(16, 12)
    pixels = steps(content)
    assert pixels.dtype == np.uint8
    assert pixels.flags["C_CONTIGUOUS"]
    for source in (path, str(path), Image.open(path), decode(content)):
        assert np.array_equal(steps(source), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(orientation: int, image_format: str) -> None:
    content = encode(PICTURE, image_format, exif=oriented(orientation))
    with Image.open(BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    upright = decode(content)
    assert np.array_equal(np.asarray(upright), expected)
    assert np.array_equal(np.asarray(upright_rgb(upright)), expected)


def test_sixteen_bits_keep_their_high_byte() -> None:
    grey = RNG.integers(0, 65536, (9, 11), dtype=np.uint16)
    found = np.asarray(decode(encode(Image.fromarray(grey))))
    assert np.array_equal(found, np.repeat((grey >> 8)[..., None], 3, axis=2))


def test_transparency_is_laid_over_white() -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [(200, 0, 0, 255), (200, 0, 0, 0), (0, 0, 0, 128)]
    found = np.asarray(decode(encode(Image.fromarray(rgba))))[0]
    assert found[0].tolist() == [200, 0, 0]
    assert found[1].tolist() == [255, 255, 255]
    assert abs(int(found[2][0]) - 127) <= 1


def test_grey_and_palette_transparency_is_laid_over_white() -> None:
    la = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert np.asarray(decode(encode(Image.fromarray(la))))[0].tolist() == [[10] * 3, [255] * 3]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 90, 90, 90])
    palette.putdata([0, 1])
    for transparency in (1, bytes([255, 0])):
        found = np.asarray(decode(encode(palette, transparency=transparency)))
        assert found[0].tolist() == [[9] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("mode", "image_format", "tolerance"),
    [("L", "PNG", 0), ("1", "PNG", 0), ("P", "PNG", 0), ("CMYK", "JPEG", 40), ("RGB", "BMP", 0)],
)
def test_every_mode_becomes_rgb(mode: str, image_format: str, tolerance: int) -> None:
    source = PICTURE.quantize(16) if mode == "P" else PICTURE.convert(mode)
    options = {"quality": 95} if image_format == "JPEG" else {}
    found = decode(encode(source, image_format, **options))
    assert (found.mode, found.size) == ("RGB", PICTURE.size)
    difference = np.asarray(found).astype(int) - np.asarray(source.convert("RGB"))
    assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize("image_format", [*FORMATS, "MPO"])
def test_every_format_is_read(image_format: str) -> None:
    assert decode(encode(PICTURE, image_format)).size == PICTURE.size


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(image_format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    options = {"lossless": True} if image_format == "WEBP" else {}
    content = encode(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    with Image.open(BytesIO(content)) as image:
        assert getattr(image, "n_frames", 1) == 2
    assert decode(content).getpixel((4, 4)) == (250, 0, 0)


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    content = encode(PICTURE, "JPEG")
    with pytest.raises(UnreadableImageError, match="image file is truncated"):
        decode(content[:-100])
    for nothing in (b"", b"just text", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        with pytest.raises(UnreadableImageError, match=r"not an image of a known format \(JPEG,"):
            decode(nothing)
    with pytest.raises(UnreadableImageError, match="No such file"):
        decode(tmp_path / "gone.png")
    with pytest.raises(UnreadableImageError, match="Is a directory"):
        decode(tmp_path)


def test_a_format_that_starts_a_program_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match="known format"):
        decode(encode(PICTURE, "EPS"))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels: decoding it would raise another error."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, content in chunks:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        parts.append(struct.pack(">I", len(content)) + name + content + checksum)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (12_000, 10_001, "12000 x 10001 pixels are more than 120,000,000"),
        (100_000, 100_000, "decompression bomb"),
        (1, 101, "1 x 101 pixels are too thin"),
        (20_200, 200, "20200 x 200 pixels are too thin"),
        (201, 2, "201 x 2 pixels are too thin for a photo"),
    ],
)
def test_bombs_are_refused_by_their_header(width: int, height: int, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        decode(png_header(width, height))


def test_the_largest_and_the_thinnest_photos_are_let_in() -> None:
    refuse_size(12_000, 10_000)
    refuse_size(1, 100)
    refuse_size(200, 2)


def test_a_large_photo_within_the_limits_is_decoded_without_a_warning() -> None:
    content = encode(Image.new("1", (9_500, 9_500)))
    assert decode(content).size == (9_500, 9_500)


def damaged_metadata() -> bytes:
    """A good JPEG whose EXIF block makes Pillow warn."""
    exif = oriented(1)
    exif[0x0132] = "2024:01:02 03:04:05"
    return encode(PICTURE, "JPEG", exif=exif.tobytes()[:-10])


def test_damaged_metadata_spoils_no_pixel() -> None:
    content, plain = damaged_metadata(), encode(PICTURE, "JPEG")
    assert np.array_equal(np.asarray(decode(content)), np.asarray(decode(plain)))
    for exif in (b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0"):
        assert np.array_equal(np.asarray(decode(encode(PICTURE, exif=exif))), PIXELS)


def test_the_damaged_metadata_of_these_tests_makes_pillow_warn() -> None:
    with pytest.warns(UserWarning, match="Truncated"), Image.open(BytesIO(damaged_metadata())) as i:
        i.getexif()


def test_pillows_remarks_are_ignored_by_one_filter_and_nobody_elses() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            ignore_remarks()
        assert warnings.filters.count(PILLOW_IGNORED) == 1
        with pytest.raises(UserWarning, match="of ours"):
            warnings.warn("of ours", stacklevel=1)


def test_threads_do_not_undo_each_others_warning_filters() -> None:
    content, steps = damaged_metadata(), spec(16, 12)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(steps, [content] * 200))) == 200


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"])
def test_random_damage_raises_nothing_else(image_format: str) -> None:
    rng = np.random.default_rng(11)
    good = encode(PICTURE, image_format)
    outcomes = set()
    for _ in range(150):
        content = bytearray(good)
        for place in rng.integers(0, len(content), rng.integers(1, 9)):
            content[place] = rng.integers(0, 256)
        try:
            outcomes.add(decode(bytes(content)).mode)
        except UnreadableImageError as error:
            outcomes.add(f"refused: {error}")
    assert "refused: " not in outcomes
    assert outcomes - {"RGB"}


def test_round_trip_through_json() -> None:
    steps = spec(36, 32)
    assert Preprocessing.from_dict(json.loads(json.dumps(steps.to_dict()))) == steps


@pytest.mark.parametrize("sizes", [(31, 32), (0, 0), (8, -1)])
def test_a_crop_larger_than_the_picture_is_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at most resize_size") as refusal:
        spec(*sizes)
    resize_size, image_size = sizes
    assert str(refusal.value) == (
        f"image_size {image_size} must be 1 or more and at most resize_size {resize_size}"
    )


def test_a_crop_may_be_one_pixel_or_the_whole_picture() -> None:
    assert spec(1, 1)(PICTURE).shape == (3, 1, 1)
    assert spec(12, 12)(PICTURE).shape == (3, 12, 12)


def test_sizes_and_levels_are_read_as_numbers_of_their_kind() -> None:
    written = {"resize_size": "36", "image_size": 32.0, "mean": ["0.5", 0, 1], "std": [1, 1, 1]}
    read = Preprocessing.from_dict(written)
    assert read == Preprocessing(36, 32, (0.5, 0.0, 1.0), (1.0, 1.0, 1.0))
    assert [type(each) for each in (read.resize_size, read.image_size, *read.mean)] == [
        int, int, float, float, float,
    ]  # fmt: skip


def test_samples_of_32_bits_are_cut_to_those_of_16() -> None:
    levels = np.array([[-5, 255, 256, 65_535, 70_000]], np.int32)
    found = np.asarray(upright_rgb(Image.fromarray(levels)))
    assert found.tolist() == [[[level] * 3 for level in (0, 0, 1, 255, 255)]]


@pytest.mark.parametrize("mode", ["RGBa", "PA", "LA", "RGBA"])
def test_every_kind_of_transparency_is_laid_over_white(mode: str) -> None:
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    picture = Image.new("PA", (2, 1)) if mode == "PA" else clear.convert(mode)
    assert np.asarray(upright_rgb(picture)).tolist() == [[[255] * 3] * 2]


def test_what_a_picture_says_of_itself_stays_behind() -> None:
    content = encode(PICTURE, "JPEG", exif=oriented(6), comment=b"mine")
    assert decode(content).info == {}
    assert decode(content).getexif() == {}


def test_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="unpack"):
        Preprocessing.from_dict({**spec(8, 8).to_dict(), "mean": [0.5, 0.5]})

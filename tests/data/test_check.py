from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from images import make_folder
from sagelight.bundle import preprocessing
from sagelight.data import check, inspect_file
from sagelight.data.check import (
    CheckSettings,
    DataReport,
    Problem,
    enforce,
    inspect_data,
    run_check,
)
from sagelight.data.index import index_images
from sagelight.data.settings import DataSettings
from sagelight.errors import DataError

CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "clothing"
EVEN = {"cat": 4, "dog": 4}
SPOILT = "train/cat/0000.jpg"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "set", {"train": EVEN, "validation": EVEN, "test": EVEN})


def inspect(root: Path, full: bool = False) -> DataReport:
    return inspect_data(index_images(root), full=full)


def codes(report: DataReport) -> dict[str, list[str]]:
    return {problem.code: problem.files for problem in report.problems}


def half(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])


def zero_filled(photo: Path) -> None:
    size = photo.stat().st_size
    half(photo)
    photo.write_bytes(photo.read_bytes().ljust(size, b"\0"))


def saved(mode: str, **options: object) -> Callable[[Path], None]:
    def save(photo: Path) -> None:
        Image.open(photo).convert(mode).save(photo, **options)

    return save


def sixteen_bit(photo: Path) -> None:
    photo.unlink()
    grey = np.linspace(0, 65535, 400, dtype=np.uint16).reshape(20, 20)
    Image.fromarray(grey).save(photo.with_suffix(".png"))


def rotated(photo: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photo).save(photo, exif=exif)


def animated(photo: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    photo.unlink()
    frames[0].save(photo.with_suffix(".gif"), save_all=True, append_images=frames[1:])


def broken_link(photo: Path) -> None:
    photo.unlink()
    photo.symlink_to(photo.with_name("gone.jpg"))


def moving(photo: Path) -> None:
    """A phone's photo with a film behind it."""
    photo.write_bytes(photo.read_bytes() + b"film" * 500)


def thin(photo: Path) -> None:
    Image.new("RGB", (302, 3)).save(photo)


def other_format(photo: Path) -> None:
    Image.open(photo).save(photo, "JPEG2000")


def damaged_metadata(photo: Path) -> None:
    Image.open(photo).save(photo, exif=b"Exif\0\0garbage")


def damaged_second_frame(photo: Path) -> None:
    animated(photo)
    gif = photo.with_suffix(".gif")
    gif.write_bytes(gif.read_bytes()[:-45])


def padded(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes() + bytes(500))


def without_end_mark(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-2])


def stereo(photo: Path) -> None:
    """What a phone writes into .jpg: two pictures, the second a depth map or thumbnail."""
    picture = Image.open(photo).convert("RGB")
    picture.save(photo, "MPO", save_all=True, append_images=[picture.rotate(180)])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("spoil", "code", "severity"),
    [
        (lambda p: p.write_bytes(b""), "zero_byte", "error"),
        (lambda p: p.write_bytes(b"<html>not found</html>"), "unreadable", "error"),
        (broken_link, "unreadable", "error"),
        (other_format, "unreadable", "error"),
        (half, "truncated", "error"),
        (zero_filled, "truncated", "error"),
        (without_end_mark, "truncated", "error"),
        (thin, "too_thin", "error"),
        (saved("RGB", format="PNG"), "wrongly_named", "warning"),
        (saved("CMYK", format="JPEG"), "cmyk", "warning"),
        (sixteen_bit, "sixteen_bit", "warning"),
        (animated, "animated", "warning"),
        (rotated, "exif_rotated", "note"),
        (moving, None, ""),
        (padded, None, ""),
        (damaged_metadata, None, ""),
        (damaged_second_frame, None, ""),
        (stereo, None, ""),
    ],
)
def test_one_spoilt_photo(
    root: Path, spoil: Callable[[Path], None], code: str | None, severity: str, full: bool
) -> None:
    spoil(root / SPOILT)
    report = inspect(root, full)
    assert list(codes(report)) == ([code] if code else [])
    for problem in report.problems:
        assert (problem.severity, problem.count) == (severity, 1)
        assert [Path(path).stem for path in problem.files] == ["0000"]
        assert problem.message.startswith("1 photo ")
    assert report.unreadable == ([SPOILT] if severity == "error" else [])


def test_a_photo_that_cannot_be_opened(tmp_path: Path) -> None:
    for full in (False, True):
        assert inspect_file.examine(tmp_path, full=full).codes == ("unreadable",)


def test_png_without_its_end(root: Path) -> None:
    half(root / "train/cat/0001.png")
    assert codes(inspect(root)) == {"truncated": ["train/cat/0001.png"]}


def test_sixteen_bit_colour_is_told_from_its_header(tmp_path: Path) -> None:
    # Pillow opens it in the 8-bit mode RGB.
    path = tmp_path / "x.png"
    path.write_bytes(_png_16_bit())
    assert inspect_file.examine(path, full=True).codes == ("sixteen_bit",)


def _png_16_bit() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + bytes(6))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_damage_in_the_middle_shows_in_full_only(root: Path) -> None:
    photo = root / "train/dog/0001.png"
    content = bytearray(photo.read_bytes())
    content[len(content) // 2] ^= 0xFF
    photo.write_bytes(content)
    assert codes(inspect(root)) == {}
    assert codes(inspect(root, full=True)) == {"unreadable": ["train/dog/0001.png"]}


def test_pixels_that_are_too_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_file, "HUGE_PIXELS", 40 * 32 - 1)
    report = inspect(root)
    assert [(p.code, p.severity, p.count) for p in report.problems] == [("huge", "warning", 24)]
    assert report.unreadable == []
    monkeypatch.setattr(inspect_file, "MAX_PIXELS", 40 * 32 - 1)
    report = inspect(root)
    assert [(p.code, p.severity, p.count) for p in report.problems] == [("too_large", "error", 24)]
    assert len(report.problems[0].files) == 20
    assert len(report.unreadable) == 24


@pytest.mark.parametrize("side", [12_000, 14_000])
def test_really_too_many_pixels_are_refused_without_decoding(root: Path, side: int) -> None:
    (root / SPOILT).unlink()
    Image.new("1", (side, side)).save(root / "train/cat/big.png")
    big = "train/cat/big.png"
    for full in (False, True):
        assert codes(inspect(root, full)) == {"too_large": [big]}
    with pytest.raises(preprocessing.UnreadableImageError):
        preprocessing.decode(root / big)


def copy(root: Path, source: str, target: str) -> None:
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / source, root / target)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("target", "expected", "severity"),
    [
        ("test/cat/x.jpg", ["leakage"], "error"),
        ("train/dog/x.jpg", ["two_labels"], "error"),
        ("validation/dog/x.jpg", ["leakage", "two_labels"], "error"),
        ("train/cat/x.jpg", ["copies"], "note"),
    ],
)
def test_copies(root: Path, target: str, expected: list[str], severity: str, full: bool) -> None:
    copy(root, SPOILT, target)
    report = inspect(root, full)
    assert list(codes(report)) == expected
    for problem in report.problems:
        assert (problem.severity, problem.count) == (severity, 2)
        assert sorted(problem.files) == sorted([SPOILT, target])


def test_each_photo_that_may_be_a_copy_moves_the_progress(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        copy(root, SPOILT, f"train/cat/copy-{number}.jpg")
    moved: dict[str, int] = {}

    def counting(
        function: Callable[[Any], Any], items: Sequence[Any], label: str, **more: Any
    ) -> Iterator[Any]:
        for item in items:
            moved[label] = moved.get(label, 0) + 1
            yield function(item)

    monkeypatch.setattr(check, "spread", counting)
    assert list(codes(inspect(root))) == ["copies"]
    assert moved == {"Checking photos": index_images(root).size(), "Comparing photos": 4}


def test_files_of_zero_bytes_are_no_copies_of_each_other(root: Path) -> None:
    (root / SPOILT).write_bytes(b"")
    (root / "test/dog/0000.jpg").write_bytes(b"")
    assert list(codes(inspect(root, full=True))) == ["zero_byte"]


def test_classes_without_validation_images(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"train": EVEN, "validation": {"cat": 2}, "test": EVEN})
    with pytest.raises(DataError) as caught:
        enforce(inspect(root), "strict")
    assert str(caught.value) == (
        f"data.root={root} is not fit to train on: classes without validation images: dog. Add "
        "some, or delete the validation folder to have some cut from the training images. Type "
        f"`python launch/local.py check data.root={root}` for the whole list, "
        "or check=warn to go on."
    )


def test_classes_too_small_to_cut(tmp_path: Path) -> None:
    report = inspect(make_folder(tmp_path, {"": {"cat": 9, "dog": 1, "elk": 2}}))
    assert [(p.code, p.severity, p.message) for p in report.problems] == [
        (
            "class_without_validation",
            "error",
            "classes without validation images: dog. "
            "Add photos: too few to cut some off for every split.",
        ),
        (
            "class_without_test",
            "warning",
            "classes without test images: dog, elk. "
            "The test figures say nothing about them; add some.",
        ),
        (
            "one_image_class",
            "warning",
            "classes with one training image: dog, elk. Too few to learn from; add some.",
        ),
    ]


def test_the_one_training_image_is_named(tmp_path: Path) -> None:
    counts = {"cat": 3, "dog": 1}
    root = make_folder(tmp_path, {"train": counts, "validation": EVEN, "test": EVEN})
    assert codes(inspect(root)) == {"one_image_class": ["train/dog/0000.jpg"]}


def test_classes_that_training_does_not_have(root: Path) -> None:
    (root / "train" / "gnu").mkdir()
    copy(root, "test/cat/0000.jpg", "test/elk/0000.jpg")
    (root / "test/cat/0000.jpg").unlink()
    messages = {p.code: (p.severity, p.message, p.count, p.files) for p in inspect(root).problems}
    assert messages == {
        "empty_class": (
            "error",
            "classes without images: gnu. Add some, or delete the folders.",
            1,
            [],
        ),
        "class_not_in_training": (
            "error",
            "classes without training images: elk. Add some, or delete the folders elsewhere.",
            1,
            ["test/elk/0000.jpg"],
        ),
    }


def test_a_test_folder_without_photos(root: Path) -> None:
    shutil.rmtree(root / "test")
    (root / "test" / "cat").mkdir(parents=True)
    (problem,) = inspect(root).problems
    assert (problem.code, problem.severity) == ("empty_test", "error")
    assert problem.message == (
        "no test images: Add some, or delete the test folder to have some cut from the "
        "training images."
    )


@pytest.mark.parametrize(("cats", "told"), [(20, False), (21, True)])
def test_imbalance(tmp_path: Path, cats: int, told: bool) -> None:
    splits = {"train": {"cat": cats, "dog": 2}, "validation": EVEN, "test": EVEN}
    messages = [p.message for p in inspect(make_folder(tmp_path, splits)).problems]
    assert messages == told * [
        "imbalance: 21 training images of cat, 2 of dog. "
        "Consider data.sampler=balanced or loss.class_weights=balanced."
    ]


def test_a_report_survives_json(root: Path) -> None:
    half(root / SPOILT)
    report = inspect(root, full=True)
    entries = json.loads(json.dumps(report.to_dict()))
    assert DataReport.from_dict(entries) == report
    assert list(entries) == [
        *("root", "fingerprint", "content_fingerprint", "full"),
        *("counts", "cut", "problems", "unreadable"),
    ]
    assert list(entries["problems"][0]) == ["code", "severity", "message", "count", "files"]
    assert entries["counts"]["train"] == EVEN


def test_the_content_fingerprint_sees_what_sizes_hide(root: Path) -> None:
    before = inspect(root, full=True)
    assert inspect(root).content_fingerprint is None
    photo = root / "test/dog/0000.jpg"
    content = bytearray(photo.read_bytes())
    content[-30] ^= 1
    photo.write_bytes(content)
    after = inspect(root, full=True)
    assert before.fingerprint == after.fingerprint
    assert before.content_fingerprint != after.content_fingerprint


def test_strict_names_every_kind_of_error_once(root: Path) -> None:
    for number in range(4):
        (root / "train/dog" / f"{number:04d}.jpg").write_bytes(b"")
    half(root / SPOILT)
    with pytest.raises(DataError) as caught:
        enforce(inspect(root), "strict")
    assert str(caught.value) == (
        f"data.root={root} is not fit to train on:\n"
        "  4 photos of zero bytes: copy again, or delete. "
        "(train/dog/0000.jpg, train/dog/0001.jpg, train/dog/0002.jpg, ...)\n"
        f"  1 photo cut short: copy again, or delete. ({SPOILT})\n"
        f"Type `python launch/local.py check data.root={root}` for the whole list, "
        "or check=warn to go on."
    )


def test_warn_prints_and_goes_on(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half(root / SPOILT)
    saved("CMYK", format="JPEG")(root / "test/cat/0000.jpg")
    rotated(root / "test/dog/0000.jpg")
    report = inspect(root)
    enforce(report, "off")
    assert capsys.readouterr().err == ""
    enforce(report, "warn")
    assert capsys.readouterr().err.splitlines() == [
        f"data.root={root}: error: 1 photo cut short: copy again, or delete. ({SPOILT})",
        f"data.root={root}: warning: 1 photo in CMYK: converted to RGB without a colour profile. "
        "(test/cat/0000.jpg)",
    ]


def test_strict_prints_warnings_when_there_are_no_errors(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved("CMYK", format="JPEG")(root / "test/cat/0000.jpg")
    enforce(inspect(root), "strict")
    assert "warning: 1 photo in CMYK" in capsys.readouterr().err


def test_the_text_of_a_report(root: Path) -> None:
    for label in ("cat", "dog"):
        for number in (0, 2):
            (root / "train" / label / f"{number:04d}.jpg").write_bytes(b"")
    for number in (0, 2):
        (root / "test" / "cat" / f"{number:04d}.jpg").write_bytes(b"")
    rotated(root / "test/dog/0000.jpg")
    report = inspect(root)
    assert report.text().splitlines() == [
        f"{root}: 24 photos of 2 classes",
        f"fingerprint {report.fingerprint}",
        "",
        "class       train  validation        test",
        "cat             4           4           4",
        "dog             4           4           4",
        "all             8           8           8",
        "",
        "error: 6 photos of zero bytes: copy again, or delete.",
        "    train/cat/0000.jpg",
        "    train/cat/0002.jpg",
        "    train/dog/0000.jpg",
        "    train/dog/0002.jpg",
        "    test/cat/0000.jpg",
        "    and 1 more",
        "",
        "note: 1 photo stored sideways: turned as their EXIF data says.",
        "    test/dog/0000.jpg",
        "",
        "Not fit to train on: 1 error, 0 warnings.",
    ]


def test_the_text_of_many_classes_stays_short() -> None:
    counts = {f"class{number:03d}": number + 1 for number in range(133)}
    report = DataReport(
        "root", "f", "c", True, dict.fromkeys(("train", "test"), counts), ["test"], [], []
    )
    lines = report.text().splitlines()
    assert len(lines) < 35
    assert lines[2:4] == ["content     c", "test cut from the training photos"]
    assert lines[6].split() == ["class132", "133", "133"]
    assert "... 113 classes between the largest and the smallest" in lines
    assert lines[-4].split() == ["class000", "1", "1"]
    assert lines[-3].split() == ["all", "8,911", "8,911"]
    assert lines[-1] == "Fit to train on: no errors, 0 warnings."


def test_long_lists_of_classes_are_cut_in_messages(tmp_path: Path) -> None:
    labels = {f"c{number:02d}": 2 for number in range(12)}
    report = inspect(
        make_folder(tmp_path, {"train": labels, "validation": {"c00": 2}, "test": labels})
    )
    assert report.errors[0].count == 11
    assert (
        "c01, c02, c03, c04, c05, c06, c07, c08, c09, c10 and 1 more." in report.errors[0].message
    )


def test_names_that_are_no_text_can_be_printed(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/train/cat/\xff.jpg")).write_bytes(b"")
    report = inspect(root, full=True)
    assert "train/cat/\\udcff.jpg" in report.text().encode().decode()


def test_the_verb_prints_writes_and_fails(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = root.parent / "new" / "report.json"
    settings = CheckSettings(DataSettings(root=str(root)), str(output))
    run_check(settings)
    assert capsys.readouterr().out.endswith("Fit to train on: no errors, 0 warnings.\n")
    assert json.loads(output.read_text())["problems"] == []
    copy(root, SPOILT, "test/dog/x.jpg")
    with pytest.raises(DataError) as caught:
        run_check(settings)
    assert str(caught.value) == (
        f"data.root={root} is not fit to train on: leakage (2), two_labels (2). "
        "Mend it as told above, or train with check=warn."
    )
    report = DataReport.from_dict(json.loads(output.read_text()))
    assert report.full
    assert isinstance(report.errors[0], Problem)


def test_the_gate_needs_no_torch() -> None:
    code = (
        "import sys, sagelight.data.check, sagelight.data.stats; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the clothing photos are not here")
def test_real_photos_raise_no_false_alarm() -> None:
    report = inspect(CLOTHING)
    assert report.problems == []
    assert sum(sum(row.values()) for row in report.counts.values()) == 3781

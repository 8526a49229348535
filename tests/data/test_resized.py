from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resizing import wanted
from sagelight.bundle.preprocessing import Preprocessing, UnreadableImageError
from sagelight.data import resized_store
from sagelight.data.index import ImageIndex, Sample, index_images
from sagelight.data.resized import ResizedPhotos, open_cache
from sagelight.data.resized_store import PIXELS, ROWS, ResizedStore
from sagelight.data.resizing import measure_sizes
from sagelight.data.settings import DataSettings
from sagelight.errors import RunError

SPEC = Preprocessing(24, 20, (0.5,) * 3, (0.25,) * 3)
STORE = Path("cache")


def settings(**more: Any) -> DataSettings:
    return DataSettings(cache="memmap", cache_folder=str(STORE), **more)


def opened(index: ImageIndex, spec: Preprocessing = SPEC, **more: Any) -> dict[str, ResizedPhotos]:
    cache = open_cache(settings(**more), index, spec)
    assert cache is not None
    return {split: cache.source(samples) for split, samples in index.splits.items()}


def assert_as_served(index: ImageIndex, spec: Preprocessing = SPEC) -> None:
    for split, photos in opened(index, spec).items():
        for position, sample in enumerate(index.splits[split]):
            assert np.array_equal(photos.served(position), spec(index.root / sample.path))


def place() -> Path:
    [found] = STORE.glob("*/" + PIXELS)
    return found.parent


def left() -> set[str]:
    """What lies in the cache beside locks."""
    return {entry.name for entry in STORE.iterdir() if entry.suffix != ".lock"}


def made() -> float:
    """When the file of photos was made: another one is another number."""
    return (place() / PIXELS).stat().st_ino


def answer(compute: Callable[[Any], Any], of: object) -> Any:
    """What it gives, or why the photo cannot be read."""
    try:
        return compute(of)
    except UnreadableImageError as error:
        return str(error)


def odd_photos(root: Path) -> ImageIndex:
    """Every kind of photo that decoding treats differently, and every rounding of sizes."""
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> Any:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    (root / "one").mkdir(parents=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(noise(31, 47, 3)).save(root / "one" / f"turned{orientation}.jpg", exif=exif)
    for width, height in (
        (24, 24),
        (25, 24),
        (24, 25),
        (101, 24),
        (24, 103),
        (7, 5),
        (5, 7),
        (333, 222),
        (61, 37),
    ):
        Image.fromarray(noise(height, width, 3)).save(root / "one" / f"{width}x{height}.png")
    Image.fromarray(noise(40, 30)).save(root / "one" / "grey.jpg")
    Image.fromarray(noise(40, 30, 4)).save(root / "one" / "transparent.png")
    Image.fromarray(noise(40, 30, 4), "RGBA").convert("P").save(root / "one" / "palette.gif")
    Image.fromarray(noise(40, 30, 3)).convert("CMYK").save(root / "one" / "cmyk.jpg")
    Image.fromarray(noise(40, 30).astype(np.uint16) * 257).save(root / "one" / "deep.png")
    (root / "one" / "broken.jpg").write_bytes(b"no photo")
    whole = (root / "one" / "333x222.png").read_bytes()
    (root / "one" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "one" / "gone.jpg").symlink_to("nowhere.jpg")
    paths = sorted(path.relative_to(root).as_posix() for path in (root / "one").iterdir())
    samples = [Sample(path, 0) for path in paths]
    return ImageIndex(
        root, ["one"], {"train": samples[::2], "validation": samples[1::2], "test": []}
    )


@pytest.mark.parametrize(
    "spec", [SPEC, replace(SPEC, image_size=24), replace(SPEC, resize_size=27)]
)
def test_every_kind_of_photo_is_served_bit_for_bit(spec: Preprocessing) -> None:
    index = odd_photos(Path("odd"))
    refused = set()
    for split, photos in opened(index, spec).items():
        for position, sample in enumerate(index.splits[split]):
            expected = answer(lambda path: spec(path), index.root / sample.path)
            found = answer(photos.served, position)
            if isinstance(expected, str):
                assert found == expected
                refused.add(Path(sample.path).stem)
                continue
            assert (found.shape, found.dtype) == (expected.shape, np.uint8)
            assert np.array_equal(found, expected), sample.path
            assert min(photos.photo(position).shape[1:]) == spec.resize_size
    assert refused == {"broken", "cut", "gone"}


def test_what_training_crops_is_the_whole_resized_photo(photos: Path) -> None:
    index = index_images(photos)
    source = opened(index)["train"]
    photo = source.photo(3)
    picture = SPEC.resize(Image.open(photos / index.splits["train"][3].path).convert("RGB"))
    assert (photo.dtype, photo.shape) == (torch.uint8, (3, 24, 30))
    assert np.array_equal(photo.numpy(), np.asarray(picture).transpose(2, 0, 1))
    # A transform that wrote into it would spoil the photo for nobody.
    photo.zero_()
    assert not torch.equal(photo, source.photo(3))


def test_it_is_made_once_for_all_splits_and_however_they_are_cut(photos: Path) -> None:
    first = index_images(photos)
    opened(first)
    number = made()
    assert_as_served(first)
    assert_as_served(index_images(photos, split_seed=5, validation_fraction=0.3))
    assert made() == number


@pytest.mark.parametrize("change", ["touched", "added", "removed", "another size"])
def test_another_set_of_photos_is_another_file(photos: Path, change: str) -> None:
    shutil.copytree(photos, "some")
    opened(index_images("some"))
    photo = next(Path("some").rglob("*.jpg"))
    spec = SPEC
    if change == "touched":
        Image.open(next(Path("some").rglob("*.png"))).convert("RGB").save(photo)
    elif change == "added":
        shutil.copy(photo, photo.with_name("another.jpg"))
    elif change == "removed":
        photo.unlink()
    else:
        spec = replace(SPEC, resize_size=26)
    assert_as_served(index_images("some"), spec)
    assert len(left()) == 2


def test_what_is_sent_to_another_process_is_where_the_photos_lie(photos: Path) -> None:
    index = index_images(photos)
    source = opened(index)["train"]
    sent = pickle.dumps(source)
    assert len(sent) < 5000 < (place() / PIXELS).stat().st_size
    received = pickle.loads(sent)
    assert np.array_equal(received.served(2), source.served(2))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_unnoticed(path: Path) -> None:
    state = path.stat()
    flip(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    (PIXELS, flip),
    (PIXELS, flip_unnoticed),
    (PIXELS, lambda path: os.truncate(path, path.stat().st_size - 1)),
    (PIXELS, lambda path: os.truncate(path, 0)),
    (ROWS, flip),
    (ROWS, lambda path: os.truncate(path, 0)),
    ("photos.json", lambda path: path.write_text("{}") and None),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_damage_is_noticed_told_and_mended(
    photos: Path,
    name: str,
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    index = index_images(photos)
    opened(index)
    capsys.readouterr()
    damage(place() / name)
    assert_as_served(index)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{place()} is damaged; it is resized again"
    assert said[1].startswith("36 photos are resized once to 24 pixels: 0.00 GB in cache, where ")
    assert len(said) == 2
    opened(index)
    assert capsys.readouterr().err == ""


def test_a_copy_of_the_cache_is_looked_at_in_all_once(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_images(photos)
    opened(index)
    shutil.copytree(STORE, "copy", copy_function=shutil.copyfile)
    shutil.rmtree(STORE)
    Path("copy").rename(STORE)
    capsys.readouterr()
    looked: list[int] = []
    are_whole = resized_store._are_whole

    def counting(path: Path, rows: Any, threads: int | None) -> bool:
        looked.append(len(rows))
        return are_whole(path, rows, threads)

    monkeypatch.setattr(resized_store, "_are_whole", counting)
    monkeypatch.setattr(resized_store, "CHECKED", 10)
    opened(index)
    opened(index)
    assert looked == [36, 9]
    assert capsys.readouterr().err == ""


@pytest.mark.timeout(120)
def test_of_processes_that_want_the_same_one_resizes_and_the_others_wait(photos: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    sums = context.SimpleQueue()
    arguments = (str(photos), str(STORE.absolute()), start, sums)
    workers = [context.Process(target=wanted, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(90)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(sums.get()[0] for _ in workers) == [0, 36]


def test_a_kill_while_it_is_made_leaves_nothing_that_is_believed(photos: Path) -> None:
    code = (
        "from resizing import resize; print('go', flush=True); "
        f"resize({str(photos)!r}, {str(STORE)!r}, seconds=30)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 60
    while not list(STORE.glob(".*/made/" + PIXELS)) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    assert len(left()) == 1
    assert not list(STORE.glob("*/photos.json"))
    assert_as_served(index_images(photos))
    assert left() == {place().name}


def test_a_disk_that_fills_up_is_met_before_the_work(photos: Path) -> None:
    """A limit on file sizes stands for the full disk."""
    code = f"from resizing import resize; resize({str(photos)!r}, {str(STORE)!r})"

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=small_disk,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (
        "RunError: resized photos could not be kept in cache: File too large; nothing half-written stays there. "
        "Type data.cache_folder=DIR on another disk, or data.cache=off." in done.stderr
    )
    assert left() == set()


def test_more_than_the_disk_has_is_refused_before_anything_is_removed(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(index_images(photos))
    held = left()
    monkeypatch.setattr(resized_store, "free_bytes", lambda folder: int(1e9) + 10)
    with pytest.raises(RunError) as refusal:
        opened(index_images(photos), replace(SPEC, resize_size=200))
    assert str(refusal.value) == (
        "0.01 GB of resized photos do not fit into cache: the disk has room for 0.00 GB, and 1 GB is left free. "
        "Type data.cache_folder=DIR on another disk, or data.cache=off."
    )
    assert left() == held


def test_more_than_the_room_for_all_is_refused(photos: Path) -> None:
    with pytest.raises(
        RunError, match=r"^0\.01 GB .* data\.cache_max_gb=0\.001\. Type data\.cache_max_gb=1, or"
    ):
        opened(index_images(photos), replace(SPEC, resize_size=300), cache_max_gb=0.001)
    assert left() == set()


def test_the_longest_unused_makes_way_unless_it_is_read(photos: Path) -> None:
    index = index_images(photos)
    # 36 photos of 24 x 30 and of 26 x 32 pixels: 78 and 90 kB.
    read = opened(index)
    opened(index, replace(SPEC, resize_size=26), cache_max_gb=0.0001)
    assert len(left()) == 2
    del read
    opened(index, replace(SPEC, resize_size=25), cache_max_gb=0.0001)
    assert len(left()) == 1


def test_sizes_are_estimated_from_headers(photos: Path) -> None:
    index = index_images(photos)
    store = ResizedStore(STORE, 10**9)
    sizes = measure_sizes(index, 24, store)
    assert (sizes.pixels, sizes.resized_bytes) == (40 * 32, 36 * 24 * 30 * 3)
    opened(index)
    assert (place() / PIXELS).stat().st_size == sizes.resized_bytes
    assert measure_sizes(index, 24, store).room_bytes > sizes.resized_bytes
    facts = json.loads((place() / "photos.json").read_text())
    assert facts["count"] == 36

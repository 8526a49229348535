"""Photos in shards: what is written, what is read, and what is refused."""

from __future__ import annotations

import gc
import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sagelight.data.check import inspect_data
from sagelight.data.index import SPLITS, ImageIndex
from sagelight.data.prepare import open_index
from sagelight.data.settings import DataSettings
from sagelight.data.shards.archives import INDEX, pack_arrays
from sagelight.data.shards.room import SharedRoom
from sagelight.errors import SagelightError
from stories.commands import refused, run

# 36 photos of about 4 kB in shards of 40 kB: several a split.
SMALL = 40_000


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagelight.data.shards.prepare.MEGABYTE", SMALL // 4)


def prepare(photos: Path, output: str = "shards", *more: str) -> int:
    return run("prepare", f"data.root={photos}", f"output={output}", "shard_mb=4", *more)


def opened(root: str = "shards", **settings: Any) -> ImageIndex:
    return open_index(DataSettings(name="shards", root=root, **settings))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def same_photos(index: ImageIndex, photos: Path) -> None:
    for split in SPLITS:
        for sample in index.splits[split]:
            assert index.content(sample) == (photos / sample.path).read_bytes()


def test_shards_are_the_same_photos_in_the_same_splits(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(photos) == 0
    assert "data=shards data.root=shards" in capsys.readouterr().out
    folder, index = open_index(DataSettings(root=str(photos))), opened()
    for part in ("labels", "splits", "cut", "fingerprint"):
        assert getattr(index, part) == getattr(folder, part)
    assert index.shards is not None
    assert len(index.shards.archives) > 3
    assert all(shard.size <= SMALL for shard in index.shards.archives)
    same_photos(index, photos)


def test_any_tar_reads_them_as_webdataset_names_them(photos: Path) -> None:
    assert prepare(photos) == 0
    index = opened()
    seen = []
    for path in sorted(Path("shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for photo, label in zip(members[::2], members[1::2], strict=True):
                # WebDataset's samples: neighbours whose names agree up to the first dot of the last part.
                key, _, extension = photo.name.rpartition(".")
                assert label.name == f"{key}.cls"
                assert extension in ("jpg", "png")
                assert (photo.mtime, photo.uid) == (0, 0)
                content, target = tar.extractfile(photo), tar.extractfile(label)
                assert content is not None
                assert target is not None
                split, name, _ = key.split("/")
                assert split == path.name.partition("-")[0]
                assert index.labels[int(target.read())] == name
                seen.append(content.read())
            if split == "train":
                # A few archives are a fair sample of all.
                assert len({member.name.split("/")[1] for member in members}) > 1
    assert sorted(seen) == sorted(path.read_bytes() for path in photos.rglob("*.*g"))


def test_the_same_photos_give_the_same_bytes(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(photos) == prepare(photos, "again") == 0
    before = contents(Path("shards"))
    assert contents(Path("again")) == before
    assert prepare(photos) == 0
    assert "holds these photos already" in capsys.readouterr().out
    assert contents(Path("shards")) == before
    assert not list(Path().glob(".*preparing"))


# The library closes no archive.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_webdatasets_library_reads_them(photos: Path) -> None:
    from webdataset import WebDataset

    assert prepare(photos) == 0
    index = opened()
    for split in SPLITS:
        archives = [str(path) for path in sorted(Path("shards").glob(f"{split}-*.tar"))]
        samples = list(WebDataset(archives, shardshuffle=False))
        read = sorted(
            (sample.get("jpg") or sample["png"], int(sample["cls"])) for sample in samples
        )
        known = index.splits[split]
        assert read == sorted(((photos / each.path).read_bytes(), each.target) for each in known)
    gc.collect()


def test_a_killed_prepare_leaves_nothing_and_goes_on(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sagelight.data.shards import write

    whole, names = write._write, []

    def dying(index: Any, planned: Any, *rest: Any) -> Any:
        names.append(planned.name)
        if len(names) == 3:
            raise KeyboardInterrupt
        return (yield from whole(index, planned, *rest))

    monkeypatch.setattr(write, "_write", dying)
    assert prepare(photos) == 130
    assert not Path("shards").exists()
    assert prepare(photos) == 0
    # The third one is written again, the first two are not.
    assert names[3] == names[2]
    assert len(set(names)) == len(names) - 1
    assert prepare(photos, "whole") == 0
    assert contents(Path("shards")) == contents(Path("whole"))


def test_larger_photos_are_scaled_when_asked(photos: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(photos, mixed)
    rng = np.random.default_rng(0)
    large = Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8))
    large.save(mixed / "red" / "large.png")
    assert prepare(mixed, "shards", "resize=64") == 0
    index = opened()
    sizes = {}
    for split in SPLITS:
        for sample in index.splits[split]:
            content = index.content(sample)
            assert isinstance(content, bytes)
            with Image.open(io.BytesIO(content)) as image:
                sizes[sample.path] = (image.format, image.size)
    assert sizes.pop("red/large.png") == ("JPEG", (96, 64))
    assert {size for _, size in sizes.values()} == {(40, 32)}
    assert inspect_data(index, full=True).of("warning") == []


def test_every_byte_is_checked_when_asked(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(photos) == 0
    assert run("check", "data=shards", "data.root=shards") == 0
    [first, *_] = sorted(Path("shards").glob("train-*"))
    content = bytearray(first.read_bytes())
    content[600:900] = bytes(300)
    first.write_bytes(content)
    message = refused(capsys, "check", "data=shards", "data.root=shards")
    assert "unreadable" in message or "truncated" in message


def test_what_is_no_sound_shard_is_refused_in_words(photos: Path) -> None:
    assert prepare(photos) == 0

    def told(**settings: Any) -> str:
        with pytest.raises(SagelightError) as caught:
            opened(**settings)
        return str(caught.value)

    assert "holds no shards" in told(root=str(photos))
    assert "Type data.split_seed=0" in told(split_seed=1)
    index = Path("shards") / INDEX
    whole = index.read_bytes()
    index.write_bytes(whole[:-40])
    assert "is damaged" in told()
    index.write_bytes(whole[:200] + bytes(20) + whole[220:])
    assert "is damaged" in told()
    newer = pack_arrays({"facts": np.frombuffer(b'{"format": 2}', dtype=np.uint8)})
    index.write_bytes(newer)
    assert "has format 2, and this sagelight reads up to 1" in told()
    index.write_bytes(whole)
    shard = Path("shards/train-00001.tar")
    content = shard.read_bytes()
    shard.write_bytes(content[:-512])
    assert f"train-00001.tar has {len(content) - 512:,} bytes instead of" in told()
    shard.unlink()
    assert "train-00001.tar is missing" in told()


def test_an_output_with_something_else_is_refused(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("shards").mkdir()
    Path("shards/notes.txt").touch()
    words = ("prepare", f"data.root={photos}", "output=shards")
    assert "holds something else, and nothing in it is overwritten" in refused(capsys, *words)
    Path("shards/notes.txt").unlink()
    assert prepare(photos) == 0
    assert "holds something else" in refused(capsys, *words, "resize=16")
    assert "output is not set" in refused(capsys, "prepare", f"data.root={photos}")
    usage = shutil.disk_usage(Path())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    full = refused(capsys, *words[:2], "output=other")
    assert "0 MB are free" in full
    assert not Path("other").exists()


def in_room(index: ImageIndex, most: int) -> ImageIndex:
    return index.in_room(SharedRoom(Path("room"), "set", most, 2))


def test_copies_of_shards_stay_within_their_room(photos: Path) -> None:
    assert prepare(photos) == 0
    index = in_room(opened(), 2 * SMALL)
    for _ in range(2):
        same_photos(index, photos)
        copies = list(Path("room/set").glob("*.tar"))
        assert copies
        assert sum(path.stat().st_size for path in copies) <= 2 * SMALL
    assert not list(Path("room/set").glob("*.tmp"))


def test_a_copy_that_arrives_damaged_is_refused(photos: Path) -> None:
    assert prepare(photos) == 0
    index = in_room(opened(), 10 * SMALL)
    assert index.shards is not None
    path = Path("shards/test-00000.tar")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SagelightError, match=r"test-00000.tar of data.root=shards is damaged"):
        index.content(index.splits["test"][0])
    assert not list(Path("room/set").glob("*.tar"))


def test_shards_that_go_missing_are_named(photos: Path) -> None:
    assert prepare(photos) == 0
    index = opened()
    Path("shards/test-00000.tar").unlink()
    with pytest.raises(SagelightError, match=r"data.root=shards: test-00000.tar cannot be read"):
        index.content(index.splits["test"][0])


def test_too_small_a_room_is_refused(photos: Path) -> None:
    assert prepare(photos) == 0
    settings = DataSettings(name="shards", root="shards", shuffle_shards=2, shards_gb=1e-6)
    with pytest.raises(SagelightError, match=r"Type data.shards_gb=1, or fewer"):
        open_index(settings)
    assert open_index(replace(settings, shards_gb=1)).shards is not None


@pytest.mark.parametrize("name", ["../outside.tar", "/outside.tar", "a/b.tar", "outside", ".tar"])
def test_an_index_that_names_files_elsewhere_is_refused(photos: Path, name: str) -> None:
    """A copy of a shard is written under the name that the index gives it."""
    assert prepare(photos) == 0
    path = Path("shards") / INDEX
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    facts = json.loads(arrays["facts"].tobytes())
    facts["shards"][0]["name"] = name
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    path.write_bytes(pack_arrays(arrays))
    with pytest.raises(SagelightError, match=r"it names a shard outside of its folder"):
        opened()

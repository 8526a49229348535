from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagelight.cloud import shards as room
from sagelight.cloud.data import LocalFile, weights_file
from sagelight.cloud.shards import shards, single
from sagelight.container.entry import unpack_shards


def files(folder: Path, contents: dict[str, bytes]) -> list[LocalFile]:
    found = []
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found.append(LocalFile(name, path, len(content)))
    return found


def test_photos_come_out_as_they_went_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHARD_BYTES", 1000)
    contents = {
        f"train/class {n % 2}/päivä-{'x' * 120}-{n}.jpg": bytes([n]) * 300 for n in range(9)
    }
    parcels = shards(files(tmp_path / "in", contents))
    assert len(parcels) == 3
    channel = tmp_path / "channel"
    channel.mkdir()
    for parcel in parcels:
        with parcel.opened() as path:
            assert path.stat().st_size == parcel.size
            (channel / parcel.name).write_bytes(path.read_bytes())
    unpack_shards(channel)
    came = {
        p.relative_to(channel).as_posix(): p.read_bytes() for p in channel.rglob("*") if p.is_file()
    }
    assert came == contents


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=150), st.integers(0, 3000)), max_size=8, unique_by=lambda row: row[0]))  # fmt: skip
def test_the_size_is_known_before_the_archive_is_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    listed = []
    for number, (name, size) in enumerate(rows):
        (folder / str(number)).write_bytes(b"a" * size)
        listed.append(LocalFile(f"{name}.jpg", folder / str(number), size))
    for parcel in shards(listed):
        with parcel.opened() as path:
            assert path.stat().st_size == parcel.size
            with tarfile.open(path) as tar:
                assert tar.getnames() == [file.name for file in parcel.files]


def test_other_files_go_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    cargo = weights_file(tmp_path / "w.pth")
    (parcel,) = single(cargo.files)
    with parcel.opened() as path:
        assert path == tmp_path / "w.pth"
    assert (parcel.name, parcel.size) == ("w.pth", 7)


def test_a_channel_without_shards_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    unpack_shards(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]

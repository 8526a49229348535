"""Archives that mean no good: nothing is written outside of the folder, over a file, or without end."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from errno import EIO, ENOSPC
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagelight import archives
from sagelight.archives import inside, read_member, refuse_swollen, unpack
from sagelight.errors import ArchiveError

LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE)
DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, len(content)
    return made, content


def packed(entries: Iterable[Entry], zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if zipped else "w") as tar:
        for made, content in entries:
            tar.addfile(made, io.BytesIO(content))
    return buffer.getvalue()


def left_by(content: bytes, place: Path) -> dict[str, bytes]:
    """What an archive leaves anywhere below a place that holds a canary beside the folder, and whether it was refused."""
    place.mkdir(parents=True, exist_ok=True)
    canary, archive = place / "canary", place / "model.tar.gz"
    canary.write_bytes(b"alive")
    archive.write_bytes(content)
    try:
        unpack(archive, place / "folder")
    finally:
        assert canary.read_bytes() == b"alive"
        assert {path.name for path in place.iterdir()} <= {"canary", "model.tar.gz", "folder"}
        below = list((place / "folder").rglob("*"))
        assert not any(path.is_symlink() for path in below)
        assert all(path.is_dir() or path.stat().st_nlink == 1 for path in below)
    return {
        path.relative_to(place / "folder").as_posix(): path.read_bytes()
        for path in below
        if path.is_file()
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_files_and_folders_are_taken(tmp_path: Path, zipped: bool) -> None:
    names = ["model.onnx", "./code/inference.py", "a/b/c/IMG.jpg", "a/b/c/img.jpg", "ü" * 120]
    entries = [entry("empty", kind=tarfile.DIRTYPE)]
    entries += [
        entry(name, os.urandom(size))
        for name, size in zip(names, (0, 1, 511, 512, 99_999), strict=True)
    ]
    found = left_by(packed(entries, zipped), tmp_path)
    assert found == {made.name.removeprefix("./"): content for made, content in entries[1:]}
    assert (tmp_path / "folder" / "empty").is_dir()
    assert not os.access(tmp_path / "folder" / "model.onnx", os.X_OK)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([entry("../canary", b"dead")], r"'../canary' leads out of its folder"),
        ([entry("a/../../canary", b"dead")], "leads out"),
        ([entry("/tmp/canary", b"dead")], "leads out"),
        ([entry("//tmp/canary", b"dead")], "leads out"),
        ([entry(".", b"dead")], "leads out"),
        ([entry("..", kind=tarfile.DIRTYPE)], "leads out"),
        ([entry("x", kind=tarfile.SYMTYPE, link="../canary"), entry("x", b"dead")], "is a link"),
        ([entry("x", kind=tarfile.SYMTYPE, link=".."), entry("x/canary", b"dead")], "is a link"),
        ([entry("x", kind=tarfile.LNKTYPE, link="../canary")], "is a link"),
        *[([entry("x", kind=kind)], "a device") for kind in DEVICES],
        ([entry("x", kind=tarfile.CONTTYPE), entry("x")], "'x' is there already"),
        ([entry("x", b"one"), entry("x", b"two")], "'x' is there already"),
        ([entry("x", b"one"), entry("./x", b"two")], "'x' is there already"),
        ([entry("x", b"one"), entry("x/y", b"two")], "cannot be unpacked: "),
        ([entry("x" * 300, b"one")], "File name too long"),
        ([entry("/".join("x" * 40))], "lies in more than 32 folders"),
    ],
)  # fmt: skip
def test_what_no_archive_of_ours_holds_is_refused(
    tmp_path: Path, entries: list[Entry], reason: str
) -> None:
    with pytest.raises(ArchiveError, match=reason) as refusal:
        left_by(packed(entries), tmp_path)
    assert str(refusal.value).startswith("model.tar.gz ")
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    ("number", "what"),
    [(ENOSPC, "Make room there, and repeat the same command."), (EIO, "Fetch it again.")],
)
def test_a_disk_that_fails_is_told_apart_from_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, what: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(archives, "_write", fail)
    with pytest.raises(ArchiveError) as refusal:
        left_by(packed([entry("x", b"one")]), tmp_path)
    assert str(refusal.value) == f"model.tar.gz cannot be unpacked: {os.strerror(number)}. {what}"


def test_names_that_a_file_system_takes_for_the_same_are_not_written_over_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that does not tell a from A, as a Mac's, which lower-casing every name stands for."""
    relative = archives._relative
    monkeypatch.setattr(archives, "_relative", lambda name: relative(name.lower()))
    with pytest.raises(ArchiveError, match="'readme' is there already"):
        left_by(packed([entry("readme", b"one"), entry("README", b"two")]), tmp_path)
    assert (tmp_path / "folder" / "readme").read_bytes() == b"one"


def bomb(size: int) -> bytes:
    """A .tar.gz of one file of so many zeros, made without holding them."""
    made, _ = entry("zeros")
    made.size = size
    blocks = [made.tobuf(), *[bytes(1 << 20)] * (size >> 20), bytes(1024)]
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(block) for block in blocks), packer.flush()])


def test_a_bomb_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "ALLOWANCE", 1 << 20)
    with pytest.raises(ArchiveError, match=r"'zeros' is one too many: it would fill the disk"):
        left_by(bomb(16 << 20), tmp_path)
    assert list((tmp_path / "folder").iterdir()) == []
    monkeypatch.undo()
    assert len(left_by(bomb(2 << 20), tmp_path / "small")["zeros"]) == 2 << 20


def test_no_more_is_unpacked_than_the_disk_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(
        ArchiveError, match=r"No space left on device\. Make room there, and repeat"
    ):
        left_by(packed([entry("a", bytes(600)), entry("b", bytes(600))]), tmp_path)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


def test_enormous_counts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_ENTRIES", 20)
    with pytest.raises(ArchiveError, match="holds more than 20 files"):
        left_by(packed(entry(f"{n}") for n in range(25)), tmp_path)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_names_without_end_are_not_read(tmp_path: Path, kind: bytes) -> None:
    """Headers that say how long the next name is: tarfile would read all of it into memory."""
    made, _ = entry("header", kind=kind)
    made.size = 1 << 32
    with pytest.raises(ArchiveError, match="says that it is larger than it can be"):
        left_by(gzip.compress(made.tobuf() + bytes(1 << 20)), tmp_path)


def test_files_with_holes_are_refused(tmp_path: Path) -> None:
    """Eight exabytes that take a kilobyte in the archive, as GNU tar writes them."""
    made, _ = entry("hole", kind=tarfile.GNUTYPE_SPARSE)
    block = bytearray(made.tobuf(tarfile.GNU_FORMAT))
    # The first hole's offset and size, and the real size; then the sum of the header's bytes.
    block[386:410] = b"00000000000\x0000000001000\x00"
    block[483:495] = b"77777777777\x00"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(ArchiveError, match="a file with holes"):
        left_by(gzip.compress(bytes(block) + bytes(2048)), tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_cut_off_is_never_taken_for_whole(tmp_path: Path, zipped: bool) -> None:
    whole = packed([entry(f"{n}", os.urandom(700)) for n in range(4)], zipped)
    # tarfile fills the last record with blocks of zeros, of which the first ends the archive.
    needed = len(whole) if zipped else len(whole.rstrip(b"\0")) + 512
    for size in range(0, needed, 397):
        with pytest.raises(ArchiveError):
            left_by(whole[:size], tmp_path / str(size))


names = st.one_of(
    st.sampled_from(["a", "a/b", "./a", "../canary", "/etc/x", "a/../../canary", ".", "A", "x/"]),
    st.text(max_size=30),
)
hostile = st.builds(
    entry,
    names,
    st.binary(max_size=700),
    st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, *LINKS, *DEVICES]),
    st.sampled_from(["", "a", "..", "/", "../canary"]),
)
quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_turns = iter(range(1_000_000))


@quick
@given(entries=st.lists(hostile, max_size=6), zipped=st.booleans())
def test_whatever_is_in_it_lands_in_the_folder_or_nowhere(
    tmp_path: Path, entries: Sequence[Entry], zipped: bool
) -> None:
    with suppress(ArchiveError):
        found = left_by(packed(entries, zipped), tmp_path / f"whole{next(_turns)}")
        assert sorted(found.values()) == sorted(c for made, c in entries if made.isreg())


@quick
@given(
    places=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    end=st.integers(0, 6000),
    zipped=st.booleans(),
)
def test_damaged_ones_are_refused_in_words_or_harmless(
    tmp_path: Path, places: list[tuple[int, int]], end: int, zipped: bool
) -> None:
    entries = [entry("a/b", b"one" * 99), entry("ü" * 120, b"two"), entry("c", bytes(513))]
    raw = bytearray(packed(entries, zipped)[:end])
    for place, value in places:
        if place < len(raw):
            raw[place] = value
    with suppress(ArchiveError):
        left_by(bytes(raw), tmp_path / f"damaged{next(_turns)}")


@given(name=names)
def test_a_name_lies_inside_or_is_refused(name: str) -> None:
    folder = Path("/folder")
    with suppress(ArchiveError):
        assert Path(os.path.normpath(inside(folder, name))).is_relative_to(folder)
        assert Path(os.path.normpath(inside(folder, name))) != folder


def test_a_member_is_read_without_unpacking_the_rest() -> None:
    content = packed([entry("zeros", bytes(99_999)), entry("./bundle.json", b"{}")])
    assert read_member(io.BytesIO(content), "bundle.json", 10) == b"{}"
    assert read_member(io.BytesIO(content), "other.json", 10) is None
    with pytest.raises(ArchiveError, match="it has 99,999 bytes, and 10 are read at most"):
        read_member(io.BytesIO(content), "zeros", 10)
    with pytest.raises(ArchiveError, match="is damaged"):
        read_member(io.BytesIO(content[:80]), "bundle.json", 10)


def test_a_zip_that_says_it_is_enormous_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALLOWANCE", 1 << 20)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a", bytes(4 << 20))
        with pytest.raises(ArchiveError, match="more than can be meant"):
            refuse_swollen(made, len(buffer.getvalue()))
        refuse_swollen(made, 1 << 20)

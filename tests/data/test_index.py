from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from sagelight.data import index as index_module
from sagelight.data.index import SPLITS, ImageIndex, index_images
from sagelight.errors import DataError

COUNTS = st.dictionaries(
    st.sampled_from(["cat", "dog", "Elk", "übung", "a b"]), st.integers(1, 14), min_size=2
)
FRACTIONS = st.floats(0.01, 0.5)
FEW = settings(max_examples=25, deadline=None, database=None)


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def touch_classes(root: Path, counts: dict[str, int]) -> Path:
    return touch(root, *(f"{k}/{number}.jpg" for k, n in counts.items() for number in range(n)))


def members(index: ImageIndex) -> dict[str, set[str]]:
    return {split: {sample.path for sample in index.splits[split]} for split in SPLITS}


def message(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        index_images(root)
    return str(caught.value)


@FEW
@given(COUNTS, FRACTIONS, FRACTIONS, st.integers(0, 5))
def test_a_cut_is_disjoint_and_covers_everything(
    counts: dict[str, int], validation: float, test: float, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = touch_classes(Path(folder), counts)
        cut = {"validation_fraction": validation, "test_fraction": test, "split_seed": seed}
        index = index_images(root, **cut)  # type: ignore[arg-type]
        assert index == index_images(root, **cut)  # type: ignore[arg-type]
    photos = members(index)
    assert sum(len(paths) for paths in photos.values()) == sum(counts.values())
    assert set().union(*photos.values()) == {
        f"{k}/{i}.jpg" for k, n in counts.items() for i in range(n)
    }
    assert index.cut == ["test", "validation"]
    assert index.size() == sum(counts.values())
    for position, label in enumerate(index.labels):
        parts = {split: index.counts(split)[position] for split in SPLITS}
        assert parts["train"] >= 1
        assert parts["validation"] >= (1 if counts[label] >= 2 else 0)
        assert parts["test"] >= (1 if counts[label] >= 3 else 0)


@FEW
@given(st.integers(3, 30), st.floats(0.01, 0.3), st.floats(0.01, 0.3), st.integers(0, 5))
def test_a_cut_takes_the_photos_of_smallest_salted_hash(
    count: int, validation: float, test: float, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = touch_classes(Path(folder), {"cat": count, "dog": 3})
        index = index_images(
            root, validation_fraction=validation, test_fraction=test, split_seed=seed
        )
    ranked = sorted(
        (f"cat/{number}.jpg" for number in range(count)),
        key=lambda path: hashlib.sha256(f"{seed}/{path}".encode()).hexdigest(),
    )
    tested, validated = max(1, round(count * test)), max(1, round(count * validation))
    photos = {
        split: {p for p in paths if p[:3] == "cat"} for split, paths in members(index).items()
    }
    assert photos["test"] == set(ranked[:tested])
    assert photos["validation"] == set(ranked[tested : tested + validated])
    assert photos["train"] == set(ranked[tested + validated :])


def test_test_photos_do_not_move_with_the_validation_fraction(tmp_path: Path) -> None:
    root = touch_classes(tmp_path, {"cat": 20, "dog": 7})
    few, many = (members(index_images(root, validation_fraction=f)) for f in (0.1, 0.4))
    assert few["test"] == many["test"]
    assert few["validation"] < many["validation"]


def test_few_photos_move_when_some_are_added(tmp_path: Path) -> None:
    before = members(index_images(touch_classes(tmp_path, {"cat": 100, "dog": 100})))
    after = members(index_images(touch_classes(tmp_path, {"cat": 104, "dog": 100})))
    kept = sum(len(before[split] & after[split]) for split in SPLITS)
    assert kept >= 190


class Shuffled:
    """os.scandir as another file system might list a folder."""

    def __init__(self, path: Any) -> None:
        with os.scandir(path) as entries:
            self.entries = list(entries)
        random.Random(1).shuffle(self.entries)

    def __enter__(self) -> Any:
        return iter(self.entries)

    def __exit__(self, *details: object) -> None:
        return None


def test_the_index_is_independent_of_the_listing_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch_classes(tmp_path, {"cat": 12, "dog": 9})
    touch(tmp_path, "cat/deep/er/x.jpg", "cat/also/y.jpg")
    listed = index_images(tmp_path)
    listings = {folder: list(folder.iterdir()) for folder in (tmp_path, tmp_path / "cat")}
    fake_os = type("Os", (), {"scandir": Shuffled, "path": os.path})
    monkeypatch.setattr(index_module, "os", fake_os)
    iterdir = Path.iterdir
    monkeypatch.setattr(
        Path, "iterdir", lambda self: reversed(listings.get(self) or list(iterdir(self)))
    )
    assert index_images(tmp_path) == listed


def test_labels_never_shift_when_a_split_lacks_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/ant/1.jpg", "train/bee/1.jpg", "train/cow/1.jpg")
    touch(tmp_path, "val/cow/2.jpg", "test/bee/3.jpg", "test/doe/3.jpg")
    index = index_images(tmp_path)
    assert index.labels == ["ant", "bee", "cow", "doe"]
    assert [(s.path, s.target) for s in index.splits["validation"]] == [("val/cow/2.jpg", 2)]
    assert index.counts("test") == [0, 1, 0, 1]
    assert index.cut == []


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "validation", "test"), ("Training", "Valid", "TESTING"), ("TRAIN", "val", "Test")],
)
def test_names_of_split_folders(tmp_path: Path, train: str, validation: str, test: str) -> None:
    for folder in (train, validation, test):
        touch(tmp_path, f"{folder}/a/1.jpg", f"{folder}/b/1.jpg")
    index = index_images(tmp_path)
    assert (index.labels, index.cut) == (["a", "b"], [])
    assert members(index)["test"] == {f"{test}/a/1.jpg", f"{test}/b/1.jpg"}


def test_unlabelled_test_photos_and_an_empty_validation_folder_are_no_splits(
    tmp_path: Path,
) -> None:
    touch_classes(tmp_path / "train", {"a": 5, "b": 5})
    touch(tmp_path, "test/1.jpg")
    (tmp_path / "validation").mkdir()
    index = index_images(tmp_path)
    assert index.cut == ["test", "validation"]
    assert all(path.startswith("train/") for path in members(index)["test"])


def test_the_same_photos_as_torchvision_where_there_are_no_hidden_files(tmp_path: Path) -> None:
    touch(tmp_path, "dog/x.JPG", "dog/y.jpeg", "dog/deep/er/z.PNG", "dog/notes.txt", "cat/1.webp")
    touch(tmp_path, "Elk/1.TIFF", "Elk/.x.jpg.d/1.jpg", "readme.jpg")
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "dog", target_is_directory=True)
    (tmp_path / "real" / "link.webp").symlink_to(tmp_path / "cat" / "1.webp")
    (tmp_path / "Elk" / "cats").symlink_to(tmp_path / "cat", target_is_directory=True)
    index = index_images(tmp_path, test_fraction=0.01, validation_fraction=0.01)
    ours = sorted((s.path, s.target) for split in SPLITS for s in index.splits[split])
    theirs = ImageFolder(tmp_path)
    expected = [(Path(p).relative_to(tmp_path).as_posix(), t) for p, t in theirs.samples]
    assert index.labels == theirs.classes == ["Elk", "cat", "dog", "linked", "real"]
    assert ours == sorted(pair for pair in expected if "/." not in pair[0])


def test_hidden_files_and_folders_are_not_looked_at(tmp_path: Path) -> None:
    touch_classes(tmp_path, {"a": 3, "b": 3})
    before = index_images(tmp_path)
    touch(tmp_path, "a/._0.jpg", ".ipynb_checkpoints/0.jpg", "b/.trash/0.jpg")
    assert index_images(tmp_path) == before


def test_a_link_back_to_a_parent_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert set().union(*members(index_images(tmp_path)).values()) == {
        "a/1.jpg",
        "b/1.jpg",
        "b/up/a/1.jpg",
    }


def test_a_broken_link_is_listed_so_that_the_gate_can_tell(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "2.jpg").symlink_to(tmp_path / "gone.jpg")
    assert "a/2.jpg" in set().union(*members(index_images(tmp_path)).values())


def test_a_name_that_is_no_text_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/\xff.jpg")).write_bytes(b"x")
    index = index_images(tmp_path)
    assert index.size() == 3
    assert index == index_images(tmp_path)


def test_the_fingerprint_changes_with_names_and_sizes_only(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    first = index_images(tmp_path).fingerprint
    (tmp_path / "a" / "1.jpg").touch()
    assert index_images(tmp_path, split_seed=3).fingerprint == first
    (tmp_path / "a" / "1.jpg").write_bytes(b"longer than before")
    longer = index_images(tmp_path).fingerprint
    (tmp_path / "b" / "1.jpg").rename(tmp_path / "b" / "2.jpg")
    assert len({first, longer, index_images(tmp_path).fingerprint}) == 3


def test_no_such_folder(tmp_path: Path) -> None:
    root = tmp_path / "gone"
    assert message(root) == (
        f"data.root={root} does not exist. Type data.root=DIR with one folder per class."
    )
    touch(tmp_path, "gone")
    assert message(root) == (
        f"data.root={root} is not a folder. Type data.root=DIR with one folder per class."
    )


def test_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    assert message(tmp_path) == (
        f"data.root={tmp_path} holds no class folders. "
        f"Expected {tmp_path}/CLASS/photo.jpg or {tmp_path}/train/CLASS/photo.jpg."
    )
    touch(tmp_path, "train/1.jpg", "bus/1.jpg")
    assert message(tmp_path) == (
        f"data.root={tmp_path} holds no class folders in train/. "
        f"Expected {tmp_path}/CLASS/photo.jpg or {tmp_path}/train/CLASS/photo.jpg."
    )


def test_one_class(tmp_path: Path) -> None:
    assert message(touch(tmp_path, "cat/1.jpg")) == (
        f"data.root={tmp_path} has one class, cat: a classifier needs two. "
        "Is data.root one level too deep or too high? It should hold one folder per class."
    )


def test_no_images(tmp_path: Path) -> None:
    assert message(touch(tmp_path, "cat/1.txt", "dog/1.heic")) == (
        f"data.root={tmp_path} has 2 class folders but no images in them (looked for "
        ".jpg, .jpeg, .png, .webp, .bmp, .gif, .tif, .tiff, .ppm, .pgm)."
    )


def test_no_training_images(tmp_path: Path) -> None:
    assert message(touch(tmp_path, "train/a/x.txt", "test/a/1.jpg", "test/b/1.jpg")) == (
        f"data.root={tmp_path} has no training images. Put them under {tmp_path}/train/CLASS/."
    )


def test_split_folders_that_contradict(tmp_path: Path) -> None:
    touch(tmp_path, "val/a/1.jpg")
    assert message(tmp_path) == (
        f"{tmp_path} has val/ but no train/. Put the training photos under {tmp_path}/train/."
    )
    touch(tmp_path, "valid/a/1.jpg")
    assert (
        message(tmp_path) == f"{tmp_path} has both val/ and valid/. Keep one folder for validation."
    )


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")

    def denied(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(index_module.os, "scandir", denied)
    assert message(tmp_path).endswith(
        "cannot be listed: Permission denied. Mend its permissions, or copy it again."
    )


def test_every_photo_that_is_looked_at_moves_the_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: dict[str, int] = {}

    def counting(items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        for done, item in enumerate(items, start=1):
            moved[label] = done
            yield item
        assert moved[label] == total

    monkeypatch.setattr(index_module, "progress", counting)
    index_images(touch_classes(tmp_path, {"cat": 5, "dog": 7}))
    assert moved == {"Listing photos": 2, "Measuring files": 12}

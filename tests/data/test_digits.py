from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from sagelight.data.check import enforce, inspect_data
from sagelight.data.digits import write_digits
from sagelight.data.prepare import open_index
from sagelight.data.settings import DataSettings
from sagelight.errors import DataError


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits") / "data" / "digits"
    write_digits(root)
    return root


def test_every_digit_is_there_and_right(digits: Path) -> None:
    source = load_digits()
    files = sorted(digits.glob("*/*.png"), key=lambda path: path.name)
    assert [path.parent.name for path in files] == [str(target) for target in source.target]
    for path, image in zip(files[::50], source.images[::50], strict=True):
        with Image.open(path) as written:
            assert (written.mode, written.size) == ("L", (8, 8))
            assert np.array_equal(np.round(np.asarray(written) / 255 * 16), image)
    assert json.loads((digits / ".digits.json").read_text()) == {"count": 1797, "version": 1}
    assert [path.name for path in digits.parent.iterdir()] == ["digits"]


def test_writing_again_changes_nothing(digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    write_digits(digits)
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == before


def test_the_gate_has_nothing_to_say(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = open_index(DataSettings(name="digits", root=str(digits)))
    assert Counter(map(len, index.labels)) == {1: 10}
    for full in (False, True):
        report = inspect_data(index, full=full)
        enforce(report, "strict")
        assert report.problems == []
    assert capsys.readouterr().err == ""


def test_writers_at_once_do_not_break_each_other(tmp_path: Path) -> None:
    root, failures = tmp_path / "digits", []
    together = threading.Barrier(3)

    def write() -> None:
        together.wait()
        try:
            write_digits(root)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(list(root.glob("*/*.png"))) == 1797
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    write_digits(tmp_path)
    assert len(list(tmp_path.glob("*/*.png"))) == 1797


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_else_is_left_alone(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "mine"
    if kind == "folder":
        root.mkdir()
    held = root / "holiday.jpg" if kind == "folder" else root
    held.write_bytes(b"precious")
    with pytest.raises(DataError) as caught:
        write_digits(root)
    assert str(caught.value) == (
        f"data.root={root} holds something other than the digits. Type data.root=DIR with a "
        "new folder for them, or data=folder to train on your own photos."
    )
    assert held.read_bytes() == b"precious"


def test_digits_that_are_not_whole(tmp_path: Path) -> None:
    (tmp_path / ".digits.json").write_text('{"count": 1797, "version": 1}')
    with pytest.raises(DataError) as caught:
        write_digits(tmp_path)
    assert str(caught.value) == (
        f"data.root={tmp_path} holds digits that are not whole. Delete the folder and start again."
    )


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    root = tmp_path / "file" / "digits"
    with pytest.raises(DataError) as caught:
        write_digits(root)
    assert str(caught.value) == (
        f"The digits cannot be written to data.root={root}: Not a directory. "
        "Type data.root=DIR with a folder that can be written."
    )

"""Files and folders that appear whole, and what killed writers leave of them."""

from __future__ import annotations

from collections.abc import Callable
from errno import EBADF
from pathlib import Path

import pytest

from sagelight.files import (
    atomic,
    replace_folder,
    scratch_folder,
    sweep,
    sweep_beside,
    takes_lock,
    write_csv,
)


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_what_killed_processes_left_of_it_goes_and_what_is_being_made_stays() -> None:
    for name in (".table.csv.7.tmp", ".other.csv.7.tmp", ".table.csv", "table.csv"):
        Path(name).touch()
    for name in (".table.csv.8.tmp", ".table.csv.8.old"):
        Path(name).mkdir()
        Path(name, "part").touch()
    with Path(".table.csv.9.tmp").open("w") as made:
        assert takes_lock(made)
        sweep_beside(Path("table.csv"))
        assert names() == [".other.csv.7.tmp", ".table.csv", ".table.csv.9.tmp", "table.csv"]
    sweep_beside(Path("table.csv"))
    assert names() == [".other.csv.7.tmp", ".table.csv", "table.csv"]


@pytest.mark.parametrize("clear", [lambda: sweep_beside(Path("made")), lambda: sweep(Path())])
def test_a_folder_whose_successor_never_came_is_put_back(
    clear: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """A process that ends between two lines cleans nothing up."""

    rename = Path.rename

    def rename_once(path: Path, target: Path) -> Path:
        rename(path, target)
        raise Killed

    for name in ("made", ".made.7.tmp"):
        Path(name).mkdir()
        Path(name, name).touch()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename_once)
        with pytest.raises(Killed):
            replace_folder(Path(".made.7.tmp"), Path("made"))
    assert names() == [".made.7.old", ".made.7.tmp"]
    clear()
    assert names() == ["made"]
    assert Path("made/made").exists()


def test_what_is_half_removed_is_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("made", ".made.7.tmp"):
        Path(name).mkdir()
    with monkeypatch.context() as patched:
        patched.setattr("sagelight.files.shutil.rmtree", lambda *_, **__: None)
        replace_folder(Path(".made.7.tmp"), Path("made"))
    Path("made").rmdir()
    sweep_beside(Path("made"))
    assert names() == []


def test_a_folder_that_is_being_replaced_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def rename_beside_another(path: Path, target: Path) -> Path:
        sweep_beside(Path("made"))
        rename(path, target)
        sweep_beside(Path("made"))
        return target

    with scratch_folder(Path("made")) as scratch:
        Path("made").mkdir()
        (scratch / "part").touch()
        monkeypatch.setattr(Path, "rename", rename_beside_another)
        replace_folder(scratch, Path("made"))
    assert names() == ["made"]
    assert Path("made/part").exists()


def test_what_cannot_be_locked_is_written_and_never_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(EBADF, "Bad file descriptor")

    monkeypatch.setattr("sagelight.files.fcntl.flock", refuse)
    Path(".x.7.tmp").touch()
    with scratch_folder(Path("x")) as scratch, atomic(scratch / "part") as file:
        file.write(b"whole")
    assert names() == [".x.7.tmp"]


def test_names_with_signs_of_patterns_are_names() -> None:
    for name in (".[ab].7.tmp", ".a.7.tmp"):
        Path(name).touch()
    sweep_beside(Path("[ab]"))
    assert names() == [".a.7.tmp"]


def test_a_scratch_folder_is_nobody_elses_and_goes() -> None:
    with scratch_folder(Path("made")) as scratch:
        (scratch / "part").touch()
        sweep_beside(Path("made"))
        assert (scratch / "part").exists()
    assert names() == []


def test_a_file_that_is_being_written_is_nobody_elses() -> None:
    with atomic(Path("x")) as file:
        sweep_beside(Path("x"))
        file.write(b"whole")
    assert Path("x").read_bytes() == b"whole"


def test_a_table_that_breaks_leaves_the_one_before() -> None:
    write_csv(Path("t.csv"), ["a", "b"], [(1, "é,\n"), (2.5, None)])
    whole = Path("t.csv").read_bytes()
    assert whole.decode() == 'a,b\n1,"é,\n"\n2.5,\n'
    with pytest.raises(ZeroDivisionError):
        write_csv(Path("t.csv"), ["a"], ([1 / each] for each in (1, 0)))
    assert names() == ["t.csv"]
    assert Path("t.csv").read_bytes() == whole

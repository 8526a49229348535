"""Files and folders that appear whole, and what killed writers leave of them."""

from __future__ import annotations

from errno import EBADF
from pathlib import Path

import pytest

from sagelight.files import atomic, scratch_folder, sweep_beside, takes_lock, write_csv


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

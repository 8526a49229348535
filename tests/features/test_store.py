from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from computing import get
from sagelight.errors import RunError
from sagelight.features.store import ARRAY, FACTS, FeatureStore
from sagelight.store import digest

Compute = Callable[[NDArray[Any]], dict[str, Any]]
SHAPE = (2, 5, 3)
BYTES = 4 * 2 * 5 * 3


class Counting:
    """Computes consecutive numbers, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, target: NDArray[Any]) -> dict[str, Any]:
        self.times += 1
        target[:] = expected(target.dtype)
        return {"unreadable": {"3": "broken"}}


def expected(dtype: Any = np.float32) -> NDArray[Any]:
    return np.arange(np.prod(SHAPE), dtype=dtype).reshape(SHAPE)


def store(most_bytes: float = 1e9) -> FeatureStore:
    return FeatureStore(Path("store"), most_bytes)


def take(compute: Compute, name: str = "a", most_bytes: float = 1e9) -> NDArray[Any]:
    values, facts = store(most_bytes).get({"name": name}, SHAPE, "float32", compute)
    assert facts["unreadable"] == {"3": "broken"}
    assert facts["name"] == name
    return values


def place(name: str = "a") -> Path:
    return Path("store") / digest({"name": name})


def left() -> set[str]:
    """What lies in the store's folder beside locks."""
    return {entry.name for entry in Path("store").iterdir() if entry.suffix != ".lock"}


def test_an_array_is_computed_once_and_then_read() -> None:
    compute = Counting()
    first, second = take(compute), take(compute)
    assert compute.times == 1
    assert np.array_equal(first, expected())
    assert np.array_equal(second, expected())
    assert left() == {place().name}


def test_what_is_read_cannot_be_changed() -> None:
    values = take(Counting())
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0, 0] = 1


def test_other_facts_are_another_array_and_their_order_is_none() -> None:
    compute = Counting()
    take(compute, "a")
    take(compute, "b")
    assert compute.times == 2
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


@pytest.mark.parametrize(("dtype", "size"), [("float32", BYTES), ("float16", BYTES // 2)])
def test_the_store_knows_what_it_holds(dtype: str, size: int) -> None:
    store().get({"name": "a"}, SHAPE, dtype, Counting())
    (kept,) = store().kept()
    assert (kept.key, kept.facts["name"]) == (digest({"name": "a"}), "a")
    assert size < kept.bytes < size + 1000


def test_an_empty_store_holds_nothing() -> None:
    assert store().kept() == []


@pytest.mark.timeout(120)
def test_of_processes_that_want_the_same_one_computes_and_the_others_wait() -> None:
    Path("computed").mkdir()
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    workers = [context.Process(target=get, args=(str(Path.cwd()), start, 0.5)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(90)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(list(Path("computed").iterdir())) == 1


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    (ARRAY, flip),
    (ARRAY, cut),
    (ARRAY, lambda path: path.write_bytes(b"") and None),
    (FACTS, cut),
    (FACTS, lambda path: path.write_text("[]") and None),
    (FACTS, lambda path: path.write_text("{}") and None),
    (FACTS, lambda path: path.write_bytes(b"\xff\xfe") and None),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_damage_is_noticed_told_and_mended(
    name: str, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    compute = Counting()
    take(compute)
    damage(place() / name)
    assert np.array_equal(take(compute), expected())
    assert compute.times == 2
    assert f"{place()} is damaged; it is computed again" in capsys.readouterr().err
    take(compute)
    assert compute.times == 2
    assert left() == {place().name}


@pytest.mark.parametrize("name", [ARRAY, FACTS])
def test_what_a_kill_left_of_a_removal_is_computed_again(name: str) -> None:
    compute = Counting()
    take(compute)
    (place() / name).unlink()
    assert np.array_equal(take(compute), expected())
    assert compute.times == 2


def test_what_a_kill_left_of_a_computation_is_removed_and_what_is_being_computed_is_not() -> None:
    take(Counting())
    dead, alive = digest({"name": "dead"}), digest({"name": "alive"})
    for key in (dead, alive):
        (Path("store") / f".{key}.x1" / "made").mkdir(parents=True)
    with (Path("store") / f"{alive}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        take(Counting())
        assert left() == {place().name, f".{alive}.x1"}
    store().sweep()
    assert left() == {place().name}


def test_a_full_disk_is_told_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Counting()

    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(RunError) as refusal:
            take(compute)
    assert str(refusal.value) == (
        "features could not be kept in store: No space left on device; nothing half-written stays there. "
        "Type features.folder=DIR on another disk, features.dtype=float16 for half the room, or features.cache=off."
    )
    assert compute.times == 0
    assert left() == set()
    take(compute)
    assert compute.times == 1


def test_a_disk_that_fills_up_is_met_before_the_work() -> None:
    """A limit on file sizes stands for the full disk."""
    code = (
        "from sagelight.features.store import FeatureStore\nfrom pathlib import Path\n"
        "def compute(target): print('computing')\n"
        "FeatureStore(Path('store'), 1e9).get({}, (1000, 1000), 'float32', compute)"
    )

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=small_disk
    )
    assert "RunError: features could not be kept in store: File too large" in done.stderr
    assert done.stdout == ""
    assert left() == set()


@pytest.mark.parametrize(
    "folder",
    ["/proc/features", "/sys/features", "a-file", "a-file/features", "n" * 300],
    ids=["no such place", "read-only", "a file", "below a file", "too long"],
)
def test_a_folder_that_cannot_be_written_is_told(folder: str) -> None:
    Path("a-file").touch()
    compute = Counting()
    with pytest.raises(RunError, match=r"^features could not be kept in .*features\.cache=off"):
        FeatureStore(Path(folder), 1e9).get({"name": "a"}, SHAPE, "float32", compute)
    assert compute.times == 0


def test_the_longest_unused_makes_way() -> None:
    compute = Counting()
    take(compute, "a")
    take(compute, "b")
    whole = sum(kept.bytes for kept in store().kept())
    for age, name in ((100, "a"), (200, "b")):
        then = place(name).stat().st_mtime - age
        os.utime(place(name) / FACTS, (then, then))
    assert [kept.facts["name"] for kept in store().kept()] == ["b", "a"]

    take(compute, "c", whole)
    assert left() == {place("a").name, place("c").name}
    take(compute, "a", whole)
    assert compute.times == 3


def test_use_is_what_counts_not_age() -> None:
    compute = Counting()
    for age, name in ((300, "a"), (200, "b")):
        take(compute, name)
        then = place(name).stat().st_mtime - age
        os.utime(place(name) / FACTS, (then, then))
    whole = sum(kept.bytes for kept in store().kept())
    take(compute, "a", whole)
    take(compute, "c", whole)
    assert left() == {place("a").name, place("c").name}


def test_what_is_larger_than_the_room_is_computed_all_the_same() -> None:
    compute = Counting()
    take(compute, "a")
    assert np.array_equal(take(compute, "b", 1), expected())
    assert left() == {place("b").name}


def test_readers_keep_what_is_removed() -> None:
    values = take(Counting())
    store().remove(place().name)
    assert left() == set()
    assert np.array_equal(values, expected())


def test_work_that_fails_leaves_nothing() -> None:
    def broken(target: NDArray[Any]) -> dict[str, Any]:
        target[:] = 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(broken)
    assert left() == set()
    compute = Counting()
    assert np.array_equal(take(compute), expected())
    assert compute.times == 1

"""What surrounds the fuzzer: counting, keeping the smallest input of a crash, and forgetting those that were mended."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from fuzz import _crashes, _done, _settle  # noqa: E402
from fuzz_target import Keeper  # noqa: E402

from fuzzing.target import Target  # noqa: E402

# Their serving.py and profiling.py would hide our folders of these names.
sys.path.remove(str(BENCHMARKS))


def _run(data: bytes) -> None:
    if data.startswith(b"crash"):
        raise IndexError(data)
    if data.startswith(b"other"):
        raise KeyError(data)
    if data:
        raise ValueError("refused")


def test_the_smallest_input_of_each_crash_is_kept_and_every_execution_counted(
    tmp_path: Path,
) -> None:
    (tmp_path / "crashes").mkdir()
    assert _done(tmp_path) == 0
    target = Target(_run, list, refusals=(ValueError,))
    for data in (b"", b"fine", b"crash long", b"crash", b"crash longer", b"other"):
        Keeper(target, tmp_path).once(data)
    assert _done(tmp_path) == 6
    kept = {path.name.partition("-")[0]: path.read_bytes() for path in _crashes(tmp_path)}
    assert kept == {"IndexError": b"crash", "KeyError": b"other"}
    assert "IndexError: b'crash'" in next(tmp_path.glob("crashes/IndexError*.txt")).read_text()


def test_what_takes_too_long_is_a_crash(tmp_path: Path) -> None:
    (tmp_path / "crashes").mkdir()
    assert _done(tmp_path) == 0
    Keeper(Target(lambda data: sum(range(10**6)), list, seconds=0), tmp_path).once(b"x")
    assert [path.name for path in _crashes(tmp_path)] == ["slow"]


def test_a_crash_that_was_mended_is_none_any_more(tmp_path: Path) -> None:
    crashes, scratch = tmp_path / "crashes", tmp_path / "scratch"
    for folder in (crashes, scratch):
        folder.mkdir()
    (crashes / "IndexError-x").write_bytes(b'{"image": []}')
    _settle("requests.body", tmp_path, str(scratch))
    assert not _crashes(tmp_path)
    assert (tmp_path / "mended" / "IndexError-x").exists()


@pytest.mark.skipif(find_spec("atheris") is not None, reason="it is installed")
def test_without_the_fuzzer_it_says_what_to_type() -> None:
    program = [sys.executable, str(BENCHMARKS / "fuzz.py")]
    done = subprocess.run(program, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "error: atheris is not installed. Type make fuzz.\n",
    )

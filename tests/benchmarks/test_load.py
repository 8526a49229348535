"""The load table in small: every bound is looked at, one that does not hold ends with 1, and nothing is measured twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import load  # noqa: E402
import load_measure  # noqa: E402

# Their serving.py and profiling.py would hide our folders of these names.
sys.path.remove(str(BENCHMARKS))

SMALL = 0.002
HERE = [
    "index: 100,000 photos listed, split, fingerprinted",
    "index: their headers and tails checked",
    "trials: 100 of them were lost",
    "runs: a start looks through 2,000 finished and 200 unfinished ones",
    "photo: 0.9 GP as PNG, refused by check, training, cache, predict and server",
]
LATER = [
    "trials: a study of 10,000 opened again",
    "trials: trials.csv and the terminal's table",
    "trials: a grid of 10,000 begun",
    "photo: 119 MP as JPG, read by check, training, cache, predict and server",
]
# What a test process has held before says nothing.
OF_A_PROCESS = ("megabytes", "megabytes_more")


@pytest.mark.parametrize(
    "name", [*HERE, *(pytest.param(name, marks=pytest.mark.slow) for name in LATER)]
)
def test_a_row_holds_in_small(name: str, tmp_path: Path) -> None:
    row = load.ROWS[name]
    row.make(tmp_path, SMALL)
    figures = row.work(tmp_path, SMALL)
    assert not row.exceeded({**figures, **dict.fromkeys(OF_A_PROCESS, 0.0)})


def test_a_bound_that_is_exceeded_ends_with_1_and_what_is_measured_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds, runs = 3.0, []

    def run(what: str, row: load_measure.Row, folder: Path, size: float) -> load.Child:
        runs.append((what, row.name))
        if row.name == "second" and len(runs) < 5:
            raise KeyboardInterrupt
        return load.Child({"seconds": seconds}, 0, 70.0)

    rows = [
        load_measure.Row(name, lambda folder, size: {}, {"seconds": 4}) for name in ("first", "second")
    ]  # fmt: skip
    monkeypatch.setattr(load, "GROUPS", {"group": rows})
    monkeypatch.setattr(load, "run", run)
    words = [f"folder={tmp_path / 'photos'}", f"output={tmp_path / 'load.json'}"]
    with pytest.raises(KeyboardInterrupt):
        load.main(words)
    runs.append(("again", ""))
    seconds = 5.0
    runs.append(("again", ""))
    assert load.main(words) == 1
    assert [name for what, name in runs if what == load.MAKE] == ["first", "second", "second"]
    assert "exceeded: seconds: 5.0 is more than 4" in capsys.readouterr().out
    written = json.loads((tmp_path / "load.json").read_text())
    assert written["rows"]["first"]["figures"] == {"megabytes": 70.0, "seconds": 3.0}
    assert [bool(row["exceeded"]) for row in written["rows"].values()] == [False, True]
    seconds = 3.0
    assert load.main(words) == 0


def test_a_figure_that_is_missing_does_not_hold() -> None:
    row = load_measure.Row("row", lambda folder, size: {}, {"bytes": 4})
    assert row.exceeded({}) == ["bytes: not measured"]
    assert row.exceeded({"bytes": float("nan")})
    assert not row.exceeded({"bytes": 4})


def test_what_moves_nothing_at_a_terminal_is_noticed() -> None:
    program = (
        "import sys, time; assert sys.stderr.isatty(); print('a'); time.sleep(0.5); print('b')"
    )
    seen = load_measure.watch([sys.executable, "-u", "-S", "-c", program])
    assert seen.status == 0
    # The first line may be read late on a busy machine.
    assert seen.gap >= 0.25
    assert seen.said.split() == [b"a", b"b"]


def test_a_row_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "run", lambda *words: load.Child({}, 1, 5.0))
    row = load_measure.Row("row", lambda folder, size: {}, {})
    assert load.measure(row, tmp_path, 1)["exceeded"] == ["the process failed"]

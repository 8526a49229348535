"""The fast path stays fast: ratios of processor time, beside the limits in benchmarks/gate.json."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import gate  # noqa: E402

from sagelight.data import sources  # noqa: E402

# Their serving.py and profiling.py would hide our folders of these names.
sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gate.photos(tmp_path_factory.mktemp("photos"))


def test_nothing_got_slower(root: Path, tmp_path: Path) -> None:
    limits = gate.read_limits()
    # What got slower is slower each time; a neighbour of this machine is not there each time.
    for turn in range(3):
        found = gate.measure(root, tmp_path / f"run-{turn}")
        assert found.keys() == limits.keys()
        broken = gate.complaints(found, limits)
        if not broken:
            return
    pytest.fail("\n".join(broken))


def test_photos_that_are_decoded_twice_are_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photo", "viewed"):
        once = getattr(sources.PhotoFiles, name)

        def twice(self: sources.PhotoFiles, position: int, once: object = once) -> object:
            once(self, position)  # type: ignore[operator]
            return once(self, position)  # type: ignore[operator]

        monkeypatch.setattr(sources.PhotoFiles, name, twice)
    found, limits = gate.loading(root), gate.read_limits()
    broken = gate.complaints(found, limits)
    assert [line.partition(":")[0] for line in broken] == list(found)
    assert "python benchmarks/gate.py profile=yes" in broken[0]


def test_every_limit_is_well_below_what_was_measured() -> None:
    for limit in gate.read_limits().values():
        assert limit["least"] <= 0.85 * limit["measured"]

"""`make bench` in small: the same plan, on a few tiny photos, without those peers that have an environment of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from bench_chart import write_chart  # noqa: E402
from bench_photos import lay_out  # noqa: E402
from bench_plan import BASELINE, OURS, PIPELINE_EPOCHS  # noqa: E402
from bench_report import Report, report, targets  # noqa: E402

from images import make_folder  # noqa: E402

# Their serving.py and profiling.py would hide our folders of these names.
sys.path.remove(str(BENCHMARKS))


@pytest.mark.slow
def test_the_whole_plan_in_small(tmp_path: Path) -> None:
    output = tmp_path / "out" / "bench.json"
    words = ["photos=32", "side=64", "batch=8", "rounds=1", f"output={output}"]
    words.append("peers=sagelight,torchvision loop,Lightning,pure step")
    command = [sys.executable, str(BENCHMARKS / "bench.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(output.read_text(encoding="utf-8"))
    measured = {(row["peer"], row["measure"]) for row in found["rows"]}
    both = {(peer, name) for peer in (OURS, BASELINE) for name in ("pipeline", "frozen", "full")}
    assert measured >= both | {("pure step", "full"), ("imports alone", "start")}
    photos = {row["photos"] for row in found["rows"] if row["measure"] in ("pipeline", "full")}
    assert photos == {24, 24 * PIPELINE_EPOCHS}
    assert "full, sagelight" in done.stdout
    ET.parse(output.with_suffix(".svg"))


def test_ratios_are_of_the_same_round(tmp_path: Path) -> None:
    found = _report([1.0, 2.0, 4.0], [2.0, 3.0, 12.0])
    ratio = found.ratio(BASELINE, "frozen")
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.5, 3.0)
    [held] = targets(found, "avx512")
    assert (held["found"], held["least"], held["held"]) == (2.0, 1.5, True)


def test_the_picture_names_the_machine_and_every_ratio(tmp_path: Path) -> None:
    write_chart(tmp_path / "a.svg", _report([1.0], [2.0]), "an abacus & its cores", "one photo")
    text = "".join(ET.parse(tmp_path / "a.svg").getroot().itertext())
    assert "an abacus & its cores; one photo" in text
    assert "2.00 (2.00 to 2.00)" in text


def test_all_peers_get_whole_batches_of_photos_that_are_in_one_split(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", {"": {"a": 20, "b": 20, "c": 3}})
    root = lay_out(tmp_path / "photos", source, photos=38, batch=4)
    by_split = {
        split: [path.resolve() for path in (root / split).glob("*/*")]
        for split in ("train", "validation", "test")
    }
    assert {split: len(paths) for split, paths in by_split.items()} == {
        "train": 28, "validation": 10, "test": 3,
    }  # fmt: skip
    assert len({path for paths in by_split.values() for path in paths}) == 41
    for split in by_split:
        assert sorted(folder.name for folder in (root / split).iterdir()) == ["a", "b", "c"]


def test_photos_made_up_are_as_large_as_photos(tmp_path: Path) -> None:
    root = lay_out(tmp_path, None, photos=15, batch=5)
    paths = list((root / "train").glob("*/*"))
    sizes = [path.stat().st_size for path in paths]
    with Image.open(paths[0]) as photo:
        assert photo.size == (500, 375)
    assert 30_000 < min(sizes) <= max(sizes) < 60_000


@pytest.mark.parametrize(
    ("photos", "reason"),
    [(4, "too few for 3 classes and a batch of 4"), (60, "has 43 photos: photos=60 and one more")],
)
def test_too_few_photos_are_refused(tmp_path: Path, photos: int, reason: str) -> None:
    source = make_folder(tmp_path / "source", {"": {"a": 20, "b": 20, "c": 3}})
    with pytest.raises(SystemExit, match=reason):
        lay_out(tmp_path / "photos", source, photos, batch=4)


def _report(ours: list[float], theirs: list[float]) -> Report:
    peers: list[Any] = [
        SimpleNamespace(kind=SimpleNamespace(name=name), found={"frozen": _answers(seconds)})
        for name, seconds in ((OURS, ours), (BASELINE, theirs))
    ]
    return report(peers, [], "seconds")


def _answers(seconds: list[float]) -> list[dict[str, Any]]:
    return [{"photos": 8, "seconds": each, "processor_seconds": each} for each in seconds]

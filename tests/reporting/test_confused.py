"""The report shows what the most confused pairs were confused by."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundles import COLOURS, LABELS, make_bundle
from reporting.made import write_evaluation
from reporting.page import Page
from sagelight.errors import RunError
from sagelight.explaining.confused import explain_confused
from sagelight.reporting.report import write_report

BLUE, GREEN, RED = range(3)
# Three greens taken for red, one blue for green; the blues and reds right.
TRUE = [GREEN, GREEN, GREEN, BLUE, BLUE, RED]
GIVEN = [RED, RED, RED, GREEN, BLUE, RED]
SURE = [0.5, 0.9, 0.7, 0.6, 0.8, 0.8]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run whose greens have a red corner, above."""
    folder = tmp_path / "run"
    chances = np.zeros((6, 3))
    for row, (given, true, sure) in enumerate(zip(GIVEN, TRUE, SURE, strict=True)):
        chances[row] = (1 - sure) / 4
        chances[row, true] += (1 - sure) / 4
        chances[row, given] += sure
    names = write_evaluation(folder, LABELS, chances / chances.sum(1, keepdims=True), TRUE)
    for name, true in zip(names, TRUE, strict=True):
        pixels = np.empty((32, 32, 3), np.uint8)
        pixels[:] = COLOURS[LABELS[true]]
        pixels[:12, :12] = COLOURS["red"]
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    make_bundle(folder / "bundle", image_size=32)
    return folder


def test_the_surest_of_each_pair_are_explained(run_dir: Path) -> None:
    assert explain_confused(run_dir, run_dir.parent / "photos") == 3
    content = json.loads((run_dir / "evaluation/confused.json").read_text())
    assert [each["file"] for each in content["photos"]] == [
        f"test/{GREEN}/1.png",
        f"test/{GREEN}/2.png",
        f"test/{BLUE}/3.png",
    ]
    first = content["photos"][0]
    assert (first["label"], first["predicted"]) == ("green", "red")
    # Red speaks from its corner, the right class from everywhere else.
    red, green = (
        colourfulness(run_dir / "evaluation" / first[kind])
        for kind in ("map_of_predicted", "map_of_label")
    )
    assert red[:8, :8].min() > 60
    assert red[20:, 20:].max() < 20
    assert green[:4, :4].max() < 20
    assert green[20:, 20:].min() > 60


def colourfulness(path: Path) -> np.ndarray:
    """Of each pixel: 0 where it is grey."""
    with Image.open(path) as picture:
        return np.ptp(np.asarray(picture).astype(int), axis=2)


def test_the_page_shows_them_below_their_pairs(run_dir: Path) -> None:
    data_root = run_dir.parent / "photos"
    before = Page(write_report(run_dir, data_root))
    assert "speaks for the wrong class" not in before.text
    explain_confused(run_dir, data_root)
    page = Page(write_report(run_dir, data_root))
    assert len(page.all("img")) == len(before.all("img")) + 3 * 3
    assert "what in them speaks for the wrong class and for the right one" in page.text
    assert page.text.count("as seen for red for green") == 2
    assert page.text.count("as seen for green for blue") == 1
    assert all(image["src"].startswith("data:image/jpeg") for image in page.all("img"))
    assert {"heat map of red", "heat map of blue"} <= {image["alt"] for image in page.all("img")}


def test_what_cannot_be_read_is_passed_over_and_earlier_maps_go(run_dir: Path) -> None:
    explain_confused(run_dir, run_dir.parent / "photos")
    (run_dir.parent / f"photos/test/{GREEN}/1.png").write_bytes(b"no picture")
    (run_dir.parent / f"photos/test/{GREEN}/2.png").unlink()
    assert explain_confused(run_dir, run_dir.parent / "photos") == 1
    assert len(list((run_dir / "evaluation/confused").iterdir())) == 3
    page = Page(write_report(run_dir, run_dir.parent / "photos"))
    assert page.text.count("as seen") == 1


def test_lost_maps_leave_a_labelled_box_and_a_damaged_list_is_named(run_dir: Path) -> None:
    explain_confused(run_dir, run_dir.parent / "photos")
    for path in (run_dir / "evaluation/confused").glob("*-map-of-label.jpg"):
        path.unlink()
    page = Page(write_report(run_dir, None))
    assert page.text.count(" missing ") == 3
    (run_dir / "evaluation/confused.json").write_text('{"photos": [{"label": "a"}]}')
    with pytest.raises(RunError, match=f"{re.escape('confused.json')} is damaged"):
        write_report(run_dir, None)


def test_a_run_without_mistakes_has_nothing_to_explain(tmp_path: Path) -> None:
    write_evaluation(tmp_path, LABELS, np.eye(3) * 0.9 + 0.03, [0, 1, 2])
    make_bundle(tmp_path / "bundle")
    assert explain_confused(tmp_path, tmp_path) == 0
    page = Page(write_report(tmp_path, None))
    assert "speaks for" not in page.text

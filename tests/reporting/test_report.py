from __future__ import annotations

import base64
import hashlib
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reporting.made import HOSTILE, Made, write_evaluation, write_photos
from reporting.page import Page
from sagelight.errors import RunError
from sagelight.files import write_json
from sagelight.reporting.report import write_report

SECTIONS = (
    "curves classes confusion pairs mistakes calibration data configuration environment repeat"
)


def test_complete_run(made: Made) -> None:
    path = write_report(made.folder, made.data_root)
    page = Page(path)
    assert path == made.folder / "report.html"
    assert [section["id"] for section in page.all("section")] == SECTIONS.split()
    assert not page.all("p", "lacks")
    for words in (
        "Test accuracy 55.6%",
        "9 test photos of 3 classes",
        "resnet18, finetune=gradual",
        "Best epoch 2",
        "3 of 3",
        "3 min 12 s",
        "1,234 photos a second",
        "Full check: 1 error, 1 note.",
        "30 files",
        "and 10 others",
        "extra.deep 1, 2.5",
        "resume null",
        "torch 2.14.0",
        "git_commit 9c1e77",
        "python launch/local.py 'data.root=my photos'",
        f"--config-from {made.folder}/config.yaml",
    ):
        assert words in page.text


def test_headline_compares_the_splits_and_leaves_out_top5_of_few_classes(made: Made) -> None:
    page = Page(write_report(made.folder, made.data_root))
    assert "Calibration error (ECE) 0.250 0." in page.text
    assert "Top-5" not in page.text


def test_errors_come_before_notes(made: Made) -> None:
    page = Page(write_report(made.folder, made.data_root))
    kinds = [box["class"] for box in page.all("div", "problem")]
    assert kinds == ["problem error", "problem note"]


def test_other_fingerprint_is_told(made: Made) -> None:
    before = Page(write_report(made.folder, None)).text
    write_json(made.folder / "check.json", {**_check(made), "fingerprint": "e" * 64})
    after = Page(write_report(made.folder, None)).text
    assert "another fingerprint" in after
    assert "another fingerprint" not in before


def test_a_run_that_did_not_check_says_so(made: Made) -> None:
    write_json(made.folder / "check.json", {"fingerprint": "abc"})
    text = Page(write_report(made.folder, None)).text
    assert "the run had check=off . Fingerprint of the data: abc" in text


def _check(made: Made) -> dict[str, object]:
    content: dict[str, object] = json.loads((made.folder / "check.json").read_text())
    return content


def test_bare_run_says_what_is_missing(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, None))
    assert [section["id"] for section in page.all("section")] == SECTIONS.split()
    assert len(page.all("p", "lacks")) == len(SECTIONS.split())
    assert "Test accuracy not measured" in page.text
    assert not page.all("img")
    assert not page.all("svg")
    for file in [
        "metrics.csv",
        "test.json",
        "test.csv",
        "check.json",
        "config.yaml",
        "bundle.json",
    ]:
        assert file in page.text


def test_interrupted_run_shows_how_far_it_got(made: Made) -> None:
    for file in ("bundle/bundle.json", "bundle/metrics.json", "evaluation/test.json"):
        (made.folder / file).unlink()
    (made.folder / "evaluation" / "test.csv").unlink()
    page = Page(write_report(made.folder, made.data_root))
    assert "Best epoch so far 2" in page.text
    assert "Accuracy 75.0% –" in page.text
    assert len(page.all("svg")) == 2


def test_finished_run_without_test_photos_says_so(made: Made) -> None:
    (made.folder / "evaluation" / "test.json").unlink()
    assert "There were no test photos." in Page(write_report(made.folder, None)).text


def test_hostile_names_stay_text(made: Made) -> None:
    page = Page(write_report(made.folder, made.data_root))
    assert len(page.all("script")) == 1
    assert HOSTILE in page.text
    assert "<script>alert" not in page.source
    assert "<b>0.png" not in page.source
    assert "test/dog/<b>0.png" in page.text


def test_only_our_script_may_run(made: Made) -> None:
    page = Page(write_report(made.folder, made.data_root))
    script = page.source.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert policy.endswith("; base-uri 'none'; form-action 'none'")


def test_nothing_is_loaded_from_elsewhere(made: Made) -> None:
    page = Page(write_report(made.folder, made.data_root))
    assert not re.search(r"https?://|@import|url\(", page.source)
    addresses = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href", "srcset", "action", "data")
        if name in attributes
    ]
    assert len(addresses) > 10
    assert all(address.startswith(("data:", "#")) for address in addresses)


def test_every_link_has_its_target(made: Made) -> None:
    page = Page(write_report(made.folder, made.data_root))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in page.all("a")} == ids


def test_both_colour_schemes_name_the_same_colours(made: Made) -> None:
    style = Page(write_report(made.folder, None)).source.split("<style>")[1].split("</style>")[0]
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    light, dark, printed = (set(re.findall(r"(--[\w-]+):\s*#", block)) for block in blocks)
    assert light == dark == printed
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) <= light | {
        *("--text", "--plain", "--mono", "--cell", "--n", "--p", "--hue")
    }


def test_wrong_photos_are_shown_pixelated_and_surest_first(made: Made) -> None:
    page = Page(write_report(made.folder, made.data_root))
    images = page.all("img")
    # Three pairs (2 + 1 + 1 photos), then the same four by confidence.
    assert [image["alt"].rsplit("/", 1)[1] for image in images[-4:]] == [
        "8.png",
        "5.png",
        "1.png",
        "2.png",
    ]
    assert len(images) == 8
    assert {image["class"] for image in images} == {"pixelated"}
    with Image.open(BytesIO(base64.b64decode(images[0]["src"].split(",")[1]))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (8, 8))


def test_lost_and_broken_photos_leave_a_labelled_box(made: Made) -> None:
    (made.data_root / "test/2/8.png").unlink()
    (made.data_root / "test/1/5.png").write_bytes(b"no picture")
    page = Page(write_report(made.folder, made.data_root))
    assert len(page.all("div", "empty")) == 4
    assert page.text.count(" missing ") == 2
    assert page.text.count(" unreadable ") == 2


def test_without_data_root_no_photo_is_shown(made: Made) -> None:
    page = Page(write_report(made.folder, None))
    assert not page.all("img")
    assert "does not say where they are" in page.text


def test_133_classes_stay_small_and_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = [f"breed_{number:03d}" for number in range(133)]
    targets = np.repeat(np.arange(133), 12)
    names = write_evaluation(tmp_path, labels, rng.dirichlet(np.full(133, 0.1), 1596), targets)
    write_photos(tmp_path / "photos", names[:1], 160)
    for name in names[1:]:
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).hardlink_to(tmp_path / "photos" / names[0])
    path = write_report(tmp_path, tmp_path / "photos")
    page = Page(path)
    assert path.stat().st_size < 1_000_000
    assert 24 < len(page.all("img")) <= 60
    assert len(page.all("tr")) > 2 * 133
    assert "dense" in page.all("table", "matrix")[0]["class"]


def test_a_perfect_model_has_no_mistakes_to_show(tmp_path: Path) -> None:
    write_evaluation(tmp_path, ["a", "b"], [[1.0, 0.0], [0.0, 1.0]], [0, 1])
    page = Page(write_report(tmp_path, None))
    assert "No test photo was taken for another class." in page.text
    assert "No test photo was misclassified." in page.text


def test_a_class_without_test_photos_has_no_figures(tmp_path: Path) -> None:
    write_evaluation(tmp_path, ["a", "b"], [[0.9, 0.1], [0.2, 0.8]], [0, 0])
    page = Page(write_report(tmp_path, None))
    assert "a 1.000 0.500 0.667 2" in page.text
    assert "b – – – 0" in page.text


def test_report_replaces_the_last_one_and_leaves_nothing_else(made: Made) -> None:
    before = {path.name for path in made.folder.iterdir()}
    first = write_report(made.folder, made.data_root).read_bytes()
    assert write_report(made.folder, made.data_root).read_bytes() == first
    assert {path.name for path in made.folder.iterdir()} - before == {"report.html"}


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such folder"):
        write_report(tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("check.json", "{"),
        ("config.yaml", "a: [1"),
        ("metrics.csv", "epoch,val/loss\n1,low\n"),
        ("evaluation/test.json", '{"labels": []}'),
        ("evaluation/test.csv", "file,label\na,b\n"),
    ],
)
def test_damaged_file_is_named(made: Made, file: str, content: str) -> None:
    (made.folder / file).write_text(content)
    with pytest.raises(RunError, match=f"{re.escape(file)} is damaged .*Copy the run again"):
        write_report(made.folder, made.data_root)

"""`explain` leaves pictures, figures and a page, whole or not at all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundles import LABELS, make_bundle, photo
from reporting.page import Page
from sagelight.bundle.spec import Quantization
from sagelight.errors import BundleError, DataError, SagelightError
from sagelight.explaining.command import ExplainSettings, evenly, run_explain
from sagelight.serving.predictor import Predictor
from stories.commands import refused

HOSTILE = '"><script>alert("x")</script>'


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No network that torchvision could rebuild, so occlusion alone explains it."""
    return make_bundle(tmp_path_factory.mktemp("explain") / "bundle", image_size=16)


@pytest.fixture
def shots() -> Path:
    """Three photos, of which one name is not for a page, and a file that is none."""
    folder = Path("shots")
    (folder / "deep").mkdir(parents=True)
    photo("red").save(folder / "a red.png")
    photo("blue").save(folder / "deep" / "<b>.jpg")
    photo("green").save(folder / "z.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def explain(bundle: Path, source: Path, output: str = "out", **settings: object) -> Path:
    method = settings.pop("method", "occlusion")
    run_explain(ExplainSettings(str(bundle), str(source), output, method, **settings))  # type: ignore[arg-type]
    return Path(output)


def read(output: Path) -> dict[str, object]:
    return dict(json.loads((output / "explain.json").read_text()))


def test_every_photo_has_its_pictures_and_figures(
    bundle: Path, shots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((explain(bundle, shots) / "explain.json").read_text())
    files = [entry["file"] for entry in content["photos"]]
    assert files == ["a red.png", "deep/<b>.jpg", "z.png"]
    assert [entry["label"] for entry in content["photos"]] == ["red", "blue", "green"]
    assert content["unreadable"][0]["file"] == "broken.jpg"
    assert "left out: broken.jpg: not an image" in capsys.readouterr().err
    assert content["methods"] == {"occlusion": {"unit": "log-odds lost"}}
    on_disk = {p.relative_to("out").as_posix() for p in Path("out").rglob("*") if p.is_file()}
    assert on_disk == {*content["files"]}
    assert len(on_disk) == 3 * (1 + 2) + 2
    for entry in content["photos"]:
        assert len(entry["top"]) == 3
        assert [m["label"] for m in entry["maps"]] == [t["label"] for t in entry["top"][:2]]
        for name in [entry["original"], *(m["picture"] for m in entry["maps"])]:
            with Image.open(Path("out") / name) as picture:
                assert (picture.format, picture.size) == ("PNG", (16, 16))


def test_the_original_is_what_the_network_saw(bundle: Path, shots: Path) -> None:
    [entry, *_] = read(explain(bundle, shots))["photos"]  # type: ignore[misc]
    pixels = Predictor.load(bundle).pixels(shots / "a red.png")
    assert np.array_equal(
        np.asarray(Image.open(Path("out") / entry["original"])), pixels.transpose(1, 2, 0)
    )


def test_one_photo_and_one_label(bundle: Path, shots: Path) -> None:
    content = read(explain(bundle, shots / "z.png", target="blue"))
    [entry] = content["photos"]  # type: ignore[misc]
    assert (entry["file"], entry["label"]) == ("z.png", "green")
    [only] = entry["maps"]
    assert only["label"] == "blue"
    assert only["confidence"] < 0.5
    assert re.search(r"photos/0001-z/occlusion-[23]\.png", only["picture"])


def test_more_labels_than_there_are(bundle: Path, shots: Path) -> None:
    [entry, *_] = read(explain(bundle, shots, top_k=9))["photos"]  # type: ignore[misc]
    assert len(entry["maps"]) == len(LABELS)


def test_the_limit_takes_photos_from_all_over(bundle: Path, shots: Path) -> None:
    output = explain(bundle, shots, limit=2)
    content = read(output)
    assert [each["file"] for each in content["photos"]] == ["a red.png", "deep/<b>.jpg"]  # type: ignore[attr-defined]
    assert content["left_out"] == 2
    assert "2 photos more were not looked at" in Page(output / "index.html").text
    assert evenly(list("abcdef"), 3) == ["a", "c", "e"]
    assert evenly(list("ab"), 3) == ["a", "b"]


def test_the_page_is_self_contained_and_escaped(tmp_path: Path, shots: Path) -> None:
    hostile = make_bundle(tmp_path / "hostile", [HOSTILE, "green", "red"], 16)
    page = Page(explain(hostile, shots) / "index.html")
    assert not re.search(r"https?://|@import|url\(", page.source)
    assert not page.all("script")
    # Names may be broken after some signs.
    unbroken = page.text.replace(" ", "")
    assert HOSTILE.replace(" ", "") in unbroken
    assert "deep/<b>.jpg" in unbroken
    images = page.all("img")
    assert len(images) == 3 * 3
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert {image["class"] for image in images} == {"pixelated"}
    assert all(image["alt"] for image in images)
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in page.all("a")} == ids
    assert "broken.jpg:notanimage" in unbroken


def test_an_earlier_result_is_replaced_and_other_files_never(bundle: Path, shots: Path) -> None:
    output = explain(bundle, shots)
    explain(bundle, shots / "z.png")
    assert len(list(output.glob("photos/*"))) == 1
    (output / "notes.txt").write_text("mine")
    with pytest.raises(SagelightError, match="out holds other files, and nothing of them"):
        explain(bundle, shots)
    assert (output / "notes.txt").read_text() == "mine"
    assert not list(Path().glob(".*.tmp*"))


def test_nothing_is_left_of_what_failed(bundle: Path, shots: Path) -> None:
    for path in shots.rglob("*.[jp][pn]g"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"none of the 4 files .* is a readable image: a red.png"):
        explain(bundle, shots)
    assert {path.name for path in Path().iterdir()} == {"shots"}


def test_wrong_settings_are_told(
    bundle: Path, shots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for missing in ("bundle", "input", "output"):
        words = [f"{n}=x" for n in ("bundle", "input", "output") if n != missing]
        assert refused(capsys, "explain", *words) == (
            f"explain needs {missing}. Type explain bundle=DIR input=FILE_OR_DIR output=DIR"
        )
    with pytest.raises(SagelightError, match=r"target=bleu: .* Did you mean blue\?"):
        explain(bundle, shots, target="bleu")
    with pytest.raises(BundleError, match=r"the network tiny_net .*, or type method=occlusion"):
        explain(bundle, shots, method="gradcam")
    assert "is no bundle" in refused(capsys, "explain", "bundle=x", "input=y", "output=z")
    blocked = "input=shots", f"bundle={bundle}", "output=shots/z.png/deeper", "method=occlusion"
    assert "shots/z.png/deeper cannot be written" in refused(capsys, "explain", *blocked)


def test_a_bundle_in_int8_is_explained_by_what_it_answers(tmp_path: Path, shots: Path) -> None:
    measured = Quantization(fp32_accuracy=0.9, int8_accuracy=0.89, photos=9, calibration_photos=9)
    rounded = make_bundle(tmp_path / "int8", image_size=16, quantization=measured)
    content = read(explain(rounded, shots, method="auto"))
    assert list(content["methods"]) == ["occlusion"]  # type: ignore[call-overload]
    with pytest.raises(SagelightError, match=r"answers in int8, which has no gradients\. Type"):
        explain(rounded, shots, "other", method="both")
    with pytest.raises(BundleError, match="Name the fp32 bundle"):
        explain(rounded, shots, "other", sanity=True)
    assert not Path("other").exists()


def test_occlusion_needs_no_torch(bundle: Path, shots: Path) -> None:
    program = (
        "import sys\n"
        "from sagelight.cli import main\n"
        f"assert main(['explain', 'bundle={bundle}', 'input={shots}', 'output=out', 'method=occlusion']) == 0\n"
        "print([m for m in ('torch', 'captum', 'matplotlib', 'pytorch_lightning') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr

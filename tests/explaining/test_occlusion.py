"""Occlusion finds what a label rests on, and overlays show it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bundles import COLOURS, LABELS, make_bundle
from sagelight.explaining.occlusion import as_heat, occlusion_evidence, occlusion_map
from sagelight.explaining.overlay import overlay, photo
from sagelight.serving.predictor import Predictor

GREY = (124, 116, 104)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Of 32 x 32 pixels, four to a cell of the map."""
    return Predictor.load(
        make_bundle(tmp_path_factory.mktemp("occlusion") / "bundle", image_size=32)
    )


def with_patch(colour: str, rows: slice, columns: slice, side: int = 32) -> np.ndarray:
    """Grey pixels (3, side, side) with a patch of one colour."""
    pixels = np.repeat(np.array(GREY, np.uint8), side * side).reshape(3, side, side)
    pixels[:, rows, columns] = np.array(COLOURS[colour], np.uint8)[:, None, None]
    return pixels


def test_the_heat_is_where_the_colour_is(predictor: Predictor) -> None:
    pixels = with_patch("red", slice(20, 28), slice(4, 12))
    heat = occlusion_map(predictor, pixels, LABELS.index("red"))
    assert heat.shape == (32, 32)
    assert heat.dtype == np.float32
    assert heat.max() == 1
    assert heat.min() == 0
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row in range(20, 28)
    assert column in range(4, 12)
    assert heat[20:28, 4:12].mean() > 0.8
    assert heat[:8].max() == 0


def test_classes_have_their_own_maps_from_the_same_questions(predictor: Predictor) -> None:
    pixels = with_patch("red", slice(0, 8), slice(0, 8))
    pixels[:, 24:, 24:] = np.array(COLOURS["blue"], np.uint8)[:, None, None]
    targets = [LABELS.index("red"), LABELS.index("blue")]
    red, blue = occlusion_evidence(predictor, pixels, targets)
    assert red[4, 4] > 0.01 > -0.01 > red[28, 28]
    assert blue[28, 28] > 0.01 > -0.01 > blue[4, 4]
    again = [occlusion_map(predictor, pixels, target) for target in targets]
    assert np.array_equal(again, [as_heat(red), as_heat(blue)])


def test_batches_change_nothing(predictor: Predictor) -> None:
    pixels = with_patch("green", slice(8, 16), slice(8, 16))
    one, all_at_once = (occlusion_evidence(predictor, pixels, [0, 1, 2], n) for n in (1, 49))
    assert one == pytest.approx(all_at_once, abs=1e-5)


def test_a_photo_without_evidence_is_cold(predictor: Predictor) -> None:
    pixels = with_patch("red", slice(0, 0), slice(0, 0))
    heat = occlusion_map(predictor, pixels, 0)
    assert not heat.any()
    assert not as_heat(np.full((4, 4), -1, np.float32)).any()


@pytest.mark.parametrize("side", [1, 5, 8, 30])
def test_any_size_has_a_map(tmp_path: Path, side: int) -> None:
    small = Predictor.load(make_bundle(tmp_path / "bundle", image_size=side))
    heat = occlusion_map(small, with_patch("blue", slice(None), slice(None), side), 0)
    assert heat.shape == (side, side)
    assert np.isfinite(heat).all()
    assert heat.max() == 1


def test_the_overlay_is_grey_where_it_is_cold_and_darkens_with_heat() -> None:
    pixels = np.full((3, 4, 3), 255, np.uint8)
    pixels[:2, 3] = 0
    heat = np.zeros((4, 3), np.float32)
    heat[0] = [0.2, 0.6, 1]
    picture = overlay(pixels, heat)
    assert (picture.mode, picture.size) == ("RGB", (3, 4))
    found = np.asarray(picture).astype(int)
    assert (found[1] == 255).all()
    assert (found[3] == round(0.114 * 255)).all()
    luma = found[0] @ [0.299, 0.587, 0.114]
    assert luma[0] > luma[1] > luma[2]
    assert found[0, 2, 0] > found[0, 2, 1] + 50
    assert np.array_equal(np.asarray(photo(pixels)), pixels.transpose(1, 2, 0))


def test_neither_needs_torch() -> None:
    code = (
        "import sys, sagelight.explaining.occlusion, sagelight.explaining.overlay\n"
        "print([m for m in ('torch', 'captum', 'hydra', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagelight.files import write_csv, write_json
from sagelight.metrics.evaluation import evaluate
from sagelight.reporting.curves import BOTTOM, LEFT, RIGHT, TOP, Curve, learning_curves
from sagelight.reporting.reliability import MIDDLE, reliability
from sagelight.reporting.run import read_run
from sagelight.reporting.svg import Scale, element, step_for, ticks

NAN = math.nan


def curves(folder: Path, columns: str, rows: list[list[Any]]) -> list[Curve]:
    write_csv(folder / "metrics.csv", columns.split(), rows)
    return learning_curves(read_run(folder))


def drawn(svg: str, css: str) -> list[ET.Element]:
    return [node for node in ET.fromstring(svg).iter() if node.get("class") == css]


def dots(svg: str, css: str) -> list[tuple[float, float]]:
    return [(float(d.attrib["cx"]), float(d.attrib["cy"])) for d in drawn(svg, f"dot {css}")]


def test_curves_span_the_plot_and_rise_with_accuracy(tmp_path: Path) -> None:
    rows = [[1, 0.2], [2, 0.6], [3, 1.0]]
    (curve,) = curves(tmp_path, "epoch val/accuracy", rows)
    (x1, y1), (x2, y2), (x3, y3) = dots(curve.svg, "val")
    assert (x1, x3, y3) == (LEFT, RIGHT, TOP)
    assert x2 == pytest.approx((x1 + x3) / 2, abs=0.01)
    assert y1 == BOTTOM > y2 > y3
    assert y2 == pytest.approx((y1 + y3) / 2, abs=0.01)


def test_best_epoch_is_marked_at_its_point(tmp_path: Path) -> None:
    rows = [[4, 0.5, 0.2], [5, 0.9, 0.3], [6, 0.7, 0.1]]
    loss = curves(tmp_path, "epoch val/accuracy val/loss", rows)[0]
    (line,) = drawn(loss.svg, "best")
    assert float(line.attrib["x1"]) == dots(loss.svg, "val")[1][0]
    assert "best: epoch 5" in loss.svg


def test_best_epoch_follows_the_metric_and_the_bundle(tmp_path: Path) -> None:
    columns = ["epoch", "val/accuracy", "val/loss"]
    write_csv(tmp_path / "metrics.csv", columns, [[1, 0.5, 0.2], [2, 0.9, 0.3], [3, 0.9, NAN]])
    assert read_run(tmp_path).best_epoch() == 2
    (tmp_path / "config.yaml").write_text("hpo: {metric: val/loss, direction: minimize}")
    assert read_run(tmp_path).best_epoch() == 1
    (tmp_path / "bundle").mkdir()
    write_json(tmp_path / "bundle" / "metrics.json", {"best_epoch": 3})
    assert read_run(tmp_path).best_epoch() == 3


def test_loss_starts_at_zero_and_a_broken_number_parts_the_line(tmp_path: Path) -> None:
    rows = [[1, 2.0], [2, NAN], [3, 1.0], [4, 0.5], [5, math.inf]]
    (curve,) = curves(tmp_path, "epoch train/loss", rows)
    (path,) = drawn(curve.svg, "line train")
    assert re.findall("[ML]", path.attrib["d"]) == ["M", "M", "L"]
    assert curve.note == "train/loss is no number in 2 epochs, first in epoch 2"
    assert dots(curve.svg, "train")[0][1] == TOP


def test_empty_cells_and_missing_columns_are_left_out(tmp_path: Path) -> None:
    (curve,) = curves(tmp_path, "train/loss val/loss", [[1.0, ""], [0.5, 0.7]])
    assert curve.lines == ["train", "val"]
    assert dots(curve.svg, "val") == [(RIGHT, pytest.approx(BOTTOM - 0.7 * (BOTTOM - TOP), abs=1))]


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert curves(tmp_path, "epoch seconds train/loss", [[1, 3.0, NAN]]) == []


@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
def test_one_epoch_stands_in_the_middle(tmp_path: Path, value: float) -> None:
    for curve in curves(tmp_path, "epoch val/accuracy val/loss", [[7, value, value]]):
        ((x, y),) = dots(curve.svg, "val")
        assert x == (LEFT + RIGHT) / 2
        assert TOP <= y <= BOTTOM


def test_many_epochs_have_whole_ticks_and_no_dots(tmp_path: Path) -> None:
    rows = [[epoch, 1 / epoch] for epoch in range(1, 301)]
    (curve,) = curves(tmp_path, "epoch val/loss", rows)
    assert not dots(curve.svg, "val")
    labels = [node.text or "" for node in drawn(curve.svg, "tick mid")]
    assert labels == ["50", "100", "150", "200", "250", "300", "epoch"]


def test_reliability_bars_are_as_high_as_accuracy_and_claim() -> None:
    # Ten photos claimed at 0.9, of which six are right: a bar of 0.6 and a gap up to 0.9.
    chances = np.tile([0.9, 0.1], (10, 1))
    diagram = reliability(evaluate(chances, np.array([0] * 6 + [1] * 4), ["a", "b"]))
    (right,), (gap,) = drawn(diagram.svg, "right"), drawn(diagram.svg, "gap over")
    unit = (MIDDLE - 12) / 1.0
    assert float(right.attrib["height"]) == pytest.approx(0.6 * unit, abs=0.01)
    assert float(gap.attrib["height"]) == pytest.approx(0.3 * unit, abs=0.01)
    assert float(gap.attrib["y"]) + float(gap.attrib["height"]) == pytest.approx(
        float(right.attrib["y"]), abs=0.02
    )
    assert diagram.reading.endswith("claims 90.0% and is right in 60.0%: too sure of itself.")


def test_reliability_counts_every_photo() -> None:
    chances = np.array([[0.55, 0.45]] * 1500 + [[0.01, 0.99]] * 500)
    targets = np.array([0] * 1500 + [1] * 500)
    diagram = reliability(evaluate(chances, targets, ["a", "b"]))
    low, high = drawn(diagram.svg, "count")
    assert float(low.attrib["height"]) == pytest.approx(3 * float(high.attrib["height"]), abs=0.05)
    assert [node.text for node in drawn(diagram.svg, "tick small mid")] == ["1.5k", "500"]
    assert len(drawn(diagram.svg, "gap under")) == 2
    assert "less sure than it could be" in diagram.reading


def test_a_fair_claim_is_called_fair() -> None:
    chances = np.tile([0.6, 0.4], (10, 1))
    diagram = reliability(evaluate(chances, np.array([0] * 6 + [1] * 4), ["a", "b"]))
    assert "about as sure as it may be" in diagram.reading


@pytest.mark.parametrize(
    ("span", "about", "step"),
    [(1.0, 5, 0.2), (10.0, 5, 2.0), (0.37, 5, 0.1), (9.0, 8, 2.0), (100, 4, 25), (3e-5, 5, 1e-5)],
)
def test_steps_are_round(span: float, about: int, step: float) -> None:
    assert step_for(span, about) == pytest.approx(step)


def test_ticks_include_both_ends() -> None:
    assert ticks(0.0, 0.3, 0.1) == [0.0, 0.1, 0.2, 0.3]
    assert ticks(1, 10, 2) == [2, 4, 6, 8, 10]


def test_a_scale_may_run_downwards() -> None:
    assert [Scale(0, 10, 100, 0)(value) for value in (0, 2.5, 10)] == [100, 75, 0]


def test_elements_escape_what_they_hold() -> None:
    node = element("text", "<script>", class_="a", stroke_width=1.23456)
    assert ET.tostring(node, encoding="unicode") == (
        '<text class="a" stroke-width="1.23">&lt;script&gt;</text>'
    )

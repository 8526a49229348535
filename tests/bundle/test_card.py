"""The model card: its facts are the bundle's, and its snippet runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from bundles import LABELS, make_bundle, make_spec, photo
from sagelight.bundle.card import CardFacts, render_card
from sagelight.metrics.evaluation import Evaluation, evaluate

COUNTS = {"train": [30, 40, 50], "validation": [3, 4, 5], "test": [6, 7, 8]}


def measured(labels: list[str] = LABELS, each: int = 10) -> Evaluation:
    targets = np.repeat(np.arange(len(labels)), each)
    probabilities = np.full((len(targets), len(labels)), 0.1 / (len(labels) - 1))
    wrong = np.arange(len(targets)) % 5 == 0
    first = np.where(wrong, (targets + 1) % len(labels), targets)
    probabilities[np.arange(len(targets)), first] = 0.9
    return evaluate(probabilities, targets, labels)


def card(**entries: object) -> str:
    evaluation = measured()
    return render_card(
        make_spec(LABELS, 16, 18, **entries),
        evaluation.figures("test"),
        CardFacts("tiny run", COUNTS, evaluation),
    )


def test_the_head_is_yaml() -> None:
    _, head, body = card().split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "image-classification"
    assert body.startswith("\n# tiny run\n\nAn image classifier: `tiny_net`, 3 classes")


def test_figures_stand_with_their_interval() -> None:
    evaluation = measured()
    low, high = evaluation.accuracy_low, evaluation.accuracy_high
    assert "On 30 test photos:" in card()
    assert f"| accuracy | 0.800 | {low:.3f} to {high:.3f} |" in card()
    assert "| blue | 0.800 | 0.800 | 0.800 | 10 |" in card()
    assert "top-5" not in card()


def test_top5_is_told_where_there_are_more_than_five_classes() -> None:
    labels = list("abcdefg")
    text = render_card(make_spec(labels), {}, CardFacts("t", {}, measured(labels)))
    assert "| top-5 accuracy | " in text


def test_photos_are_counted_by_class_and_split() -> None:
    text = card(fingerprint="f" * 64)
    assert "| class | train | validation | test |" in text
    assert "| green | 40 | 4 | 7 |" in text
    assert "| all | 120 | 12 | 21 |" in text
    assert f"`{'f' * 64}`" in text
    assert "Cut from the training folder: test, validation." in text


def test_preprocessing_is_told_as_it_is_done() -> None:
    text = card()
    assert "short side to 18 pixels" in text
    assert "centre 16 x 16 kept" in text
    assert "mean (0.485, 0.456, 0.406)" in text


def test_rough_figures_are_called_rough() -> None:
    assert "fewer than 30 test photos are rough: blue (10), green (10), red (10)." in card()
    enough = measured(each=30)
    text = render_card(make_spec(), {}, CardFacts("t", COUNTS, enough))
    assert "rough" not in text


def test_of_a_thousand_classes_the_roughest_are_named() -> None:
    labels = [f"class {number}" for number in range(1000)]
    evaluation = measured(labels, each=2)
    evaluation.per_class[700] = replace(evaluation.per_class[700], support=1)
    facts = CardFacts("many", {"test": [2] * 1000}, evaluation)
    text = render_card(make_spec(labels, 16, 18), evaluation.figures("test"), facts)
    assert "are rough: class 700 (1), class 0 (2), class 1 (2)," in text
    assert "class 8 (2) and 990 more." in text


def test_without_an_evaluation_the_card_says_so() -> None:
    text = render_card(make_spec(), {"val/accuracy": 0.75}, CardFacts("t", COUNTS))
    assert "Not measured on test photos.\n\n| figure | value |" in text
    assert "| val/accuracy | 0.75 |" in text
    assert "Not measured on test photos." in render_card(make_spec(), {}, CardFacts("t", COUNTS))


def test_provenance_is_flat_and_without_blanks() -> None:
    text = card()
    assert "| versions.numpy | 2 |" in text
    assert "git" not in text.split("## Where it comes from")[1]


def test_labels_cannot_break_a_table() -> None:
    labels = ["a|b", "<b>", "x\ny_z", "[a](b)"]
    text = render_card(make_spec(labels), {}, CardFacts("t", {"train": [1, 2, 3, 4]}))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert r"| a\|b | 1 |" in rows
    assert r"| \<b> | 2 |" in rows
    assert r"| x y\_z | 3 |" in rows
    assert r"| \[a\](b) | 4 |" in rows


def test_the_python_snippet_of_a_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    photo("green").save(tmp_path / "photo.jpg")
    [snippet] = re.findall(r"```python\n(.*?)```", (bundle / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    assert capsys.readouterr().out.startswith("green 0.")


def test_the_command_of_a_card_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sagelight.cli import main

    bundle = make_bundle(tmp_path / "bundle")
    (tmp_path / "PHOTOS").mkdir()
    photo("red").save(tmp_path / "PHOTOS" / "one.png")
    [command] = re.findall(r"```sh\n(.*?)```", (bundle / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    program, *words = command.split()
    assert program == "sagelight"
    assert main(words) == 0
    assert (tmp_path / "predictions.csv").read_text().splitlines()[1].startswith("one.png,red,")

from __future__ import annotations

import math
import random
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from reporting.page import Page
from sagelight.reporting import study_importance
from sagelight.reporting.study import StudyFacts, write_study_report
from sagelight.reporting.study_axis import ChoiceAxis, NumberAxis, SettingAxis, setting_axes
from sagelight.reporting.study_drawn import drawn
from sagelight.reporting.study_importance import importances
from sagelight.reporting.study_marks import cut
from sagelight.reporting.study_objective import Objective, best_of, levels
from sagelight.reporting.study_progress import best_so_far, history, trial_curves
from sagelight.reporting.study_settings import parallel, slices
from sagelight.tuning.space import Categorical, Continuous, Integer, Scale, Space
from sagelight.tuning.trials import State, Trial

NAN = math.nan
HOSTILE = '"><script>alert("x")</script>'
ACCURACY = Objective("val/accuracy", maximize=True)
LOSS = Objective("val/loss", maximize=False)
LR = Continuous("optimizer.lr", 1e-4, 1e-1, "log")
BATCH = Integer("data.batch_size", 8, 64)
AUGMENT = Categorical("augment", ("none", "light", "strong"))
SPACE = Space((LR, BATCH, AUGMENT))
SECTIONS = ["history", "importance", "together", "settings", "trials"]


def trial(
    number: int,
    objective: float | None,
    state: State = "Completed",
    values: dict[str, str] | None = None,
    curve: tuple[float, ...] = (),
    reason: str = "",
) -> Trial:
    return Trial(str(number), state, objective, values or {}, 60.0, curve, reason)


def scores(*objectives: float | None) -> list[Trial]:
    return [trial(number, objective) for number, objective in enumerate(objectives)]


def study(count: int, seed: int = 0) -> list[Trial]:
    """Trials whose accuracy depends on the learning rate alone, best at 0.01."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        exponent = draw.uniform(-4, -1)
        values = {
            "optimizer.lr": repr(10**exponent),
            "data.batch_size": str(draw.randint(8, 64)),
            "augment": draw.choice(AUGMENT.values),
        }
        accuracy = 0.9 - 0.1 * (exponent + 2) ** 2
        found.append(trial(number, accuracy, values=values, curve=(accuracy / 2, accuracy)))
    return found


def written(
    folder: Path,
    trials: list[Trial],
    space: Space = SPACE,
    objective: Objective = ACCURACY,
    name: str = "pets",
    notes: tuple[str, ...] = (),
) -> Page:
    facts = StudyFacts(name, objective.metric, objective.maximize, "bayesian", space, notes)
    return Page(write_study_report(folder, facts, trials))


def marks(svg: str, css: str) -> list[ET.Element]:
    return [node for node in ET.fromstring(svg).iter() if css in node.get("class", "").split()]


def axis_of(dimension: Continuous | Integer | Categorical, *texts: str) -> SettingAxis:
    trials = [trial(0, 0.5, values={dimension.name: text}) for text in texts]
    return setting_axes(Space((dimension,)), trials)[0]


def test_the_page_tells_how_the_study_went(tmp_path: Path) -> None:
    trials = [
        *study(5),
        trial(5, 0.3, "Stopped", {"optimizer.lr": "0.0002"}),
        trial(6, None, "Failed", {"optimizer.lr": "0.0003"}, reason="Out of memory."),
        trial(7, 0.95, values={"optimizer.lr": "0.0123456789", "augment": "light"}),
    ]
    page = written(tmp_path, trials, notes=("5,000 photos went through the backbone once.",))
    assert page.all("section") == [{"id": name} for name in SECTIONS]
    assert {path.name for path in tmp_path.iterdir()} == {"report.html"}
    for words in (
        "pets Bayesian search for the highest val/accuracy",
        "5,000 photos went through the backbone once.",
        "Best val/accuracy 95.00% trial 7, the highest of 6 completed trials",
        "Its settings optimizer. lr 0.0123457",
        "Trials 8 Completed 6 Stopped early 1 Failed 1",
        "Training time of all trials 8 min 00 s",
        "7 completed, best 95.00% 0.0123457 – light",
        "5 stopped early 30.00% 0.0002 – –",
        "Out of memory.",
    ):
        assert words in page.text
    assert not page.all("p", "lacks")


def test_a_minimized_objective(tmp_path: Path) -> None:
    page = written(tmp_path, scores(0.5, 0.123456, 0.4), objective=LOSS)
    assert "search for the lowest val/loss" in page.text
    assert "Best val/loss 0.1235 trial 1, the lowest of 3 completed trials" in page.text


def test_a_study_without_trials(tmp_path: Path) -> None:
    page = written(tmp_path, [])
    assert [section["id"] for section in page.all("section")] == SECTIONS
    assert len(page.all("p", "lacks")) == len(SECTIONS)
    assert "Best val/accuracy not measured" in page.text
    assert not page.all("svg")


def test_a_study_whose_trials_all_failed(tmp_path: Path) -> None:
    trials = [trial(0, None, "Failed", {"optimizer.lr": "0.1"}, reason="No such backbone.")]
    page = written(tmp_path, [*trials, trial(1, NAN)])
    assert "No trial has measured val/accuracy." in page.text
    assert "An estimate takes at least 4 measured trials; there are 0." in page.text
    assert "No such backbone." in page.text
    assert not page.all("svg")


def test_a_single_trial(tmp_path: Path) -> None:
    page = written(tmp_path, study(1))
    assert "trial 0, the only completed trial" in page.text
    # History, learning curve, parallel coordinates, one chart a setting.
    assert len(page.all("svg")) == 3 + 3
    assert "there are 1." in page.text


def test_equal_objectives(tmp_path: Path) -> None:
    trials = [replace(t, objective=0.8) for t in study(6)]
    page = written(tmp_path, trials)
    assert "All measured trials are equal" in page.text
    assert "Best val/accuracy 80.00% trial 0" in page.text


def test_without_settings(tmp_path: Path) -> None:
    page = written(tmp_path, scores(0.1, 0.2, 0.3, 0.4), space=Space())
    assert page.text.count("The study varied no setting.") == 3
    assert "The learning curves of the trials are not known." in page.text


def test_200_trials_stay_small(tmp_path: Path) -> None:
    long = tuple(0.001 * epoch for epoch in range(300))
    trials = [replace(t, curve=long) for t in study(200)]
    page = written(tmp_path, trials)
    assert len(page.source) < 1_000_000
    assert len(page.all("path", "trial")) == 200


def test_of_thousands_of_trials_the_page_draws_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []

    def forest(columns: list[list[list[float]]], goals: list[float]) -> tuple[list[float], float]:
        fitted.append(len(goals))
        return [1.0] * len(columns), 0.5

    monkeypatch.setattr(study_importance, "_forest", forest)
    trials = study(5000)
    # Far from the best 500 by its score, but none else was completed.
    trials = [replace(t, state="Stopped") for t in trials]
    trials[2500] = replace(trials[2500], objective=0.2, state="Completed")
    trials[4000] = trial(4000, None, "Failed", reason="Out of memory.")
    page = written(tmp_path, trials)
    assert len(page.source) < 2_000_000
    assert 900 <= len(page.all("path", "trial")) <= 1000
    assert "Drawn and listed are" in page.text
    assert "of 5,000 trials: the best 500" in page.text
    assert "Best val/accuracy 20.00% trial 2500" in page.text
    assert "2500 completed, best 20.00%" in page.text
    assert fitted == [1000]


def test_what_is_drawn_of_many_is_in_their_order_with_the_best() -> None:
    trials = study(1500)
    shown = drawn(trials, ACCURACY)
    assert [trials.index(t) for t in shown] == sorted(trials.index(t) for t in shown)
    best = sorted(trials, key=lambda t: t.objective or 0, reverse=True)[:500]
    assert all(any(t is each for each in shown) for t in best)
    assert len(shown) == 1000
    assert drawn(trials[:1000], ACCURACY) == trials[:1000]


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    space = Space((Categorical(HOSTILE, (HOSTILE, "null")), LR))
    trials = [
        Trial(HOSTILE, "Completed", 0.5, {HOSTILE: HOSTILE, "optimizer.lr": HOSTILE}),
        Trial("b", "Failed", None, {HOSTILE: "null"}, reason=HOSTILE),
    ]
    page = written(tmp_path, trials, space=space, name=HOSTILE, notes=(HOSTILE,))
    assert not page.all("script")
    assert "<script" not in page.source
    assert page.text.count('alert("x")') > 5


def test_nothing_is_loaded_from_elsewhere_and_no_script_runs(tmp_path: Path) -> None:
    page = written(tmp_path, study(8))
    assert not re.search(r"https?://|@import|url\(", page.source)
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    assert {link["href"].removeprefix("#") for link in page.all("a")} == set(SECTIONS)


def test_every_colour_is_known_in_all_schemes(tmp_path: Path) -> None:
    style = written(tmp_path, []).source.split("<style>")[1].split("</style>")[0]
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    known = set.intersection(*(set(re.findall(r"(--[\w-]+):", block)) for block in blocks))
    fonts_and_sizes = {"--text", "--plain", "--mono", "--cell", "--n", "--p", "--hue", "--v"}
    assert set(re.findall(r"var\((--[\w-]+)", style)) <= known | fonts_and_sizes


def test_best_so_far_counts_completed_trials_only() -> None:
    trials = [
        trial(0, None, "Failed"),
        trial(1, 0.5),
        trial(2, 0.9, "Stopped"),
        trial(3, 0.4),
        trial(4, NAN),
        trial(5, 0.7),
    ]
    assert best_so_far(trials, ACCURACY) == [None, 0.5, 0.5, 0.5, 0.5, 0.7]
    assert best_so_far(trials, Objective("val/macro_f1", maximize=False)) == [
        *(None, 0.5, 0.5, 0.4, 0.4, 0.4)
    ]
    assert best_of(trials, ACCURACY) is trials[5]


def test_history_marks_what_became_of_each_trial() -> None:
    trials = [trial(7, 0.5), trial(8, None, "Failed"), trial(9, 0.6, "Stopped"), trial(10, 0.7)]
    chart = history(trials, ACCURACY, levels([0.5, 0.6, 0.7], ACCURACY))
    assert chart
    (best,), (done,), (early,) = (marks(chart.svg, css) for css in ("winner", "done", "early"))
    assert len(marks(chart.svg, "failed")) == 1
    assert float(best.attrib["cy"]) < float(early.attrib["cy"]) < float(done.attrib["cy"])
    assert [node.text for node in marks(chart.svg, "mid")] == ["7", "8", "9", "10", "trial"]
    assert "4 trials, best 70.00% in trial 10." in chart.svg


def test_the_best_curve_lies_on_top_and_a_broken_one_is_parted() -> None:
    trials = [
        trial(0, 0.9, curve=(0.5, NAN, 0.8, 0.9)),
        trial(1, 0.6, curve=(0.4, 0.6)),
        trial(2, 0.3, "Stopped", curve=(0.3,)),
        trial(3, 0.2),
    ]
    chart = trial_curves(trials, ACCURACY)
    assert chart
    lines = marks(chart.svg, "curve")
    assert [line.attrib["class"].split()[-1] for line in lines] == ["done", "early", "winner"]
    assert re.findall("[ML]", lines[-1].attrib["d"]) == ["M", "M", "L"]
    assert "3 trials, 1 without a curve." in chart.svg
    assert trial_curves(trials[3:], ACCURACY) is None


def test_importance_finds_the_setting_that_matters(tmp_path: Path) -> None:
    trials = study(40)
    found = importances(trials, setting_axes(SPACE, trials), levels([0.5, 0.9], ACCURACY))
    assert found.settings[0].name == "optimizer.lr"
    assert found.settings[0].share > 0.8
    assert sum(entry.share for entry in found.settings) == pytest.approx(1)
    assert found.explained > 0.5
    text = written(tmp_path, trials).text
    assert "An estimate from 40 trials" in text
    assert "Setting Share optimizer. lr " in text


def test_importance_finds_a_choice_that_matters() -> None:
    worth = {"none": 0.1, "light": 0.5, "strong": 0.9}
    trials = [replace(t, objective=worth[t.values["augment"]]) for t in study(30)]
    found = importances(trials, setting_axes(SPACE, trials), levels([0.1, 0.9], ACCURACY))
    assert found.settings[0].name == "augment"
    assert found.settings[0].share > 0.9


def test_importance_bears_values_that_are_no_numbers() -> None:
    trials = study(12)
    trials[3].values["optimizer.lr"] = "null"
    del trials[4].values["data.batch_size"]
    found = importances(trials, setting_axes(SPACE, trials), levels([0.1, 0.9], ACCURACY))
    assert {entry.name for entry in found.settings} == set(SPACE.names)


def test_importance_of_one_setting_is_none() -> None:
    trials = study(12)
    found = importances(trials, setting_axes(Space((LR,)), trials), levels([0.1, 0.9], ACCURACY))
    assert "one setting only" in found.lack
    assert not found.settings


@pytest.mark.parametrize(
    ("scale", "low", "high", "text", "place"),
    [
        ("auto", 0.0, 10.0, "2.5", 0.25),
        ("log", 1e-4, 1.0, "0.01", 0.5),
        ("reverse_log", 0.0, 0.99, "0.9", 0.5),
        ("log", 1e-4, 1.0, "0", None),
        ("reverse_log", 0.0, 0.99, "1", None),
        ("auto", 0.0, 10.0, "null", None),
        ("auto", 0.0, 10.0, "nan", None),
        ("auto", 0.0, 10.0, "20", 1.0),
    ],
)
def test_numbers_stand_on_their_scale(
    scale: Scale, low: float, high: float, text: str, place: float | None
) -> None:
    axis = axis_of(Continuous("x", low, high, scale), text)
    assert axis.place(text) == (None if place is None else pytest.approx(place))


@pytest.mark.parametrize(
    ("dimension", "labels"),
    [
        (Continuous("x", 1e-5, 1e-1, "log"), "1e-05 0.0001 0.001 0.01 0.1"),
        (Continuous("x", 0.5, 0.999, "reverse_log"), "0.9 0.99 0.999"),
        (Continuous("x", 0.011, 0.019, "log"), "0.011 0.019"),
        (Integer("x", 1, 3), "1 2 3"),
        (Integer("x", 8, 128, "log"), "10 30 100"),
        (Integer("x", 5, 5), "5"),
        (Categorical("x", ("b", "a", "[1,2]")), "b a [1,2]"),
    ],
)
def test_ticks_are_round_and_in_order(
    dimension: Continuous | Integer | Categorical, labels: str
) -> None:
    marks = axis_of(dimension).ticks
    assert [mark.label for mark in marks] == labels.split()
    places = [mark.place for mark in marks]
    assert places == sorted(places)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)


def test_a_choice_that_the_space_does_not_name_has_its_place() -> None:
    axis = axis_of(AUGMENT, "wild")
    assert isinstance(axis, ChoiceAxis)
    assert axis.values == ("none", "light", "strong", "wild")
    assert axis.place(None) is None


def test_parallel_lines_end_at_their_objective_with_the_best_on_top() -> None:
    trials = study(12)
    trials[5].values["optimizer.lr"] = "null"
    scale = levels([t.objective or 0.0 for t in trials], ACCURACY)
    picture = parallel(trials, setting_axes(SPACE, trials), ACCURACY, scale)
    assert picture
    lines = marks(picture.svg, "trial")
    best = best_of(trials, ACCURACY)
    assert best
    title = lines[-1].find("title")
    assert lines[-1].attrib["class"] == "trial winner"
    assert title is not None
    assert (title.text or "").startswith(f"trial {best.name}: ")
    ends = [float(line.attrib["d"].rsplit(" ", 1)[1]) for line in lines]
    assert ends == sorted(ends, reverse=True)
    broken = [line for line in lines if "trial 5:" in ET.tostring(line, encoding="unicode")]
    assert len(re.findall("L", broken[0].attrib["d"])) == len(SPACE.dimensions) - 1


def test_slices_place_every_trial_and_tell_which_cannot_be_placed() -> None:
    trials = study(10)
    trials[2].values["optimizer.lr"] = "null"
    del trials[3].values["optimizer.lr"]
    scale = levels([t.objective or 0.0 for t in trials], ACCURACY)
    rate, batch, augment = slices(trials, setting_axes(SPACE, trials), ACCURACY, scale)
    assert rate.note == "2 trials with no place on this scale: null, no value."
    assert rate.scale == "logarithmic scale"
    assert [len(marks(chart.svg, "dot")) for chart in (rate, batch, augment)] == [8, 10, 10]
    assert batch.note == augment.note == ""


def test_a_diverged_trial_does_not_squeeze_the_others() -> None:
    scale = levels([0.9, 0.91, 0.92, 0.93, 0.94, 0.01], ACCURACY)
    assert (scale.low, scale.high, scale.beyond) == (0.9, 0.94, 1)
    assert scale.clip(0.01) == 0.9
    assert "1 trial is far worse than the rest" in scale.note("trial")
    assert levels([0.1, 0.11, 0.12, 0.13, 0.14, 1e6], LOSS).high == pytest.approx(0.14)
    # One that is better by far is what a study is for.
    assert levels([0.01, 0.02, 0.03, 0.04, 0.05, 0.9], ACCURACY).high >= 0.9


def test_any_objectives_have_an_axis() -> None:
    draw = random.Random(0)
    for _ in range(500):
        size = 10.0 ** draw.randint(-14, 14)
        values = [draw.choice((-1, 1)) * draw.random() * size for _ in range(draw.randint(1, 8))]
        if draw.random() < 0.3:
            values = [values[0]] * len(values)
        objective = draw.choice((ACCURACY, LOSS))
        scale = levels(values, objective)
        best = max(values, key=objective.goodness)
        assert scale.low < scale.high
        assert scale.lines == sorted(scale.lines)
        assert scale.low <= best <= scale.high


def test_a_range_on_any_scale_has_an_axis() -> None:
    draw = random.Random(0)
    scales: list[Scale] = ["auto", "log", "reverse_log"]
    for _ in range(300):
        low, high = sorted(draw.choice((-3.0, 0.0, 1e-9, 0.3, 0.5, 0.999, 7.0, 1e6)) for _ in "ab")
        axis = axis_of(Continuous("x", low, high, draw.choice(scales)), "0.4", "abc", "1e-3")
        assert isinstance(axis, NumberAxis)
        assert axis.low < axis.high
        assert 0 <= (axis.place("0.4") or 0.0) <= 1


def test_a_long_text_loses_its_middle() -> None:
    assert cut("a" * 30 + "b" * 30, 11) == "aaaaa…bbbbb"
    assert cut("short", 11) == "short"

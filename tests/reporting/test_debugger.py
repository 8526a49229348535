from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from debugging.trials import GRADIENT, LOSS, REDUCED, WEIGHT, healthy, leave_trial
from reporting.page import Page
from sagelight.debugging.records import Place
from sagelight.debugging.rules.catalogue import build_rules
from sagelight.debugging.rules.evaluate import Evaluation, findings
from sagelight.debugging.trial import Trial
from sagelight.debugging.writer import TrialWriter
from sagelight.errors import RunError
from sagelight.files import write_json
from sagelight.reporting.debugger import DebuggerPart, debugger_part
from sagelight.reporting.debugger_charts import evenly
from sagelight.reporting.line_chart import MOST_POINTS, thinned
from sagelight.reporting.report import write_report
from sagelight.reporting.rule_marks import Mark, drawn
from sagelight.reporting.svg import Scale

RULES = ("VanishingGradient", "SaturatedActivation", "Overfit", "ExplodingTensor")
STATUS = {"sink": "trial", "folder": "", "saved": {}, "bytes": 0, "stopped": ""}


def leave(run: Path, count: int = 30, **more: Any) -> Path:
    """A run whose gradients vanish from training step 20 on; every tenth step is followed by a validation."""
    rng = np.random.default_rng(0)
    steps = [healthy(number, rng) for number in range(count)]
    for number, step in enumerate(steps):
        step[LOSS] = np.float32(2 - number / count)
        step[GRADIENT] = step[GRADIENT] * (1e-9 if number >= 20 else 1)
    trial = leave_trial(
        run / "debugger" / "trial",
        steps,
        lambda step: {LOSS: np.float32(2.1 - step / count)} if step % 10 == 9 else None,
        REDUCED,
    )
    evaluation = Evaluation(Trial.open(trial), build_rules(RULES, {}))
    evaluation.end()
    content = {"status": STATUS, "stopped_by": "", **findings(evaluation), **more}
    write_json(run / "debugger" / "findings.json", content)
    return run


def change(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = run / "debugger" / "findings.json"
    content = json.loads(path.read_text())
    edit(content)
    write_json(path, content)


def part(run: Path) -> DebuggerPart:
    found = debugger_part(run)
    assert found is not None
    return found


def test_the_rules_that_found_something_come_first(tmp_path: Path) -> None:
    page = Page(write_report(leave(tmp_path), None))
    assert [row["class"] for row in page.all("tr") if "class" in row] == [
        "IssuesFound",
        "NotEvaluated",
        "NoIssuesFound",
        "NoIssuesFound",
    ]
    for words in (
        "1 of 4 rules found something; 1 was not evaluated.",
        "They looked at 30 training steps and 3 validations.",
        "1 VanishingGradient IssuesFound 30",
        "ResNet_ fc. weight , step 22 (TRAIN 20): mean magnitude",
        "It means: a layer's gradients are so small that it does not learn.",
        "Use pretrained weights (model.weights=default)",
        "9 other findings",
        "The trial holds no inputs of tanh or sigmoid modules.",
        "Looked for: the network learns its training photos by heart.",
    ):
        assert words in page.text
    assert 'href="#debugger"' in page.source


def test_a_rule_that_failed_comes_after_findings_with_what_it_raised(tmp_path: Path) -> None:
    run = leave(tmp_path)

    def fail(content: dict[str, Any]) -> None:
        content["verdicts"][2].update(status="Error", reason="ValueError: no (look, line 3)")

    change(run, fail)
    found = part(run).findings
    assert found is not None
    assert [row.name for row in found.rows] == [RULES[0], RULES[2], RULES[1], RULES[3]]
    assert "; 1 failed." in found.summary
    assert "ValueError: no (look, line 3)." in Page(write_report(run, None)).text


def test_marks_stand_at_the_steps_of_the_findings(tmp_path: Path) -> None:
    for chart in part(leave(tmp_path)).charts:
        places = re.findall(r'class="fired" x1="([\d.]+)"', chart.svg)
        # Steps 22 to 32 of 0 to 32, and what is nearer than a few pixels is one mark.
        assert float(places[0]) == pytest.approx(48 + 362 * 22 / 32, abs=0.01)
        assert float(places[-1]) == pytest.approx(410, abs=12)
        assert "step 22 (TRAIN 20): VanishingGradient: gradient/ResNet_fc.weight" in chart.svg
        assert '<text class="mid fired"' in chart.svg


def test_loss_and_gradients_are_drawn_over_one_axis(tmp_path: Path) -> None:
    loss, gradients = part(leave(tmp_path)).charts
    assert [(line.name, len(line.points)) for line in loss.lines] == [
        ("training", 30),
        ("validation", 3),
    ]
    assert loss.lines[1].points[0] == (10, pytest.approx(1.8))
    [line] = gradients.lines
    assert line.name == "first, smallest: fc"
    assert line.points[-1][1] < 1e-10 < 1e-3 < line.points[0][1]
    assert ">1e-12<" in gradients.svg


def test_four_layers_stand_for_a_network(tmp_path: Path) -> None:
    names = [
        f"gradient/Network_backbone.{name}.weight" for name in ("zeta", "beta", "mid", "small")
    ]
    names.append("gradient/Network_head.2.weight")
    writer = TrialWriter(tmp_path / "debugger" / "trial")
    writer.collections({"gradients": {*names, "gradient/Network_head.2.bias"}}, {})
    arrays = {name: np.full(3, 1e-6 if "small" in name else 0.1) for name in names}
    writer.write(Place(0, "TRAIN", 0), arrays | {"gradient/Network_head.2.bias": np.ones(2)})
    writer.close()
    [chart] = part(tmp_path).charts
    assert [line.name for line in chart.lines] == [
        "first: backbone.zeta",
        "middle: backbone.mid",
        "last: head.2",
        "smallest: backbone.small",
    ]


def test_a_loss_that_is_no_number_parts_the_line_and_is_told(tmp_path: Path) -> None:
    run = leave(tmp_path)
    leave_trial(
        run / "other",
        [{LOSS: np.float32(value)} for value in (1.0, np.nan, np.inf, 0.5)],
    )
    (run / "debugger" / "trial").rename(run / "gone")
    (run / "other").rename(run / "debugger" / "trial")
    [loss] = part(run).charts
    assert loss.note == "training is no number, first in step 1"
    assert loss.svg.count("M", loss.svg.index('"line raw"'), loss.svg.index("<circle")) == 2


def test_a_run_without_a_debugger_shows_nothing_of_it(tmp_path: Path) -> None:
    assert debugger_part(tmp_path) is None
    source = Page(write_report(tmp_path, None)).source
    assert 'id="debugger"' not in source
    assert "#debugger" not in source


def test_a_training_that_has_not_ended_shows_its_curves(tmp_path: Path) -> None:
    run = leave(tmp_path)
    (run / "debugger" / "findings.json").unlink()
    page = Page(write_report(run, None))
    assert "debugger/findings.json is missing: no rule has judged" in page.text
    assert len(page.all("svg")) == 2
    assert not page.all("line", "fired")


def test_a_trial_that_is_lost_leaves_the_table(tmp_path: Path) -> None:
    run = leave(tmp_path)
    (run / "debugger" / "trial").rename(tmp_path / "elsewhere")
    page = Page(write_report(run, None))
    assert "debugger/trial is missing" in page.text
    assert len(page.all("tr", "IssuesFound")) == 1
    change(run, lambda content: content["status"].update(folder=str(tmp_path / "elsewhere")))
    assert len(part(run).charts) == 2


def test_tensors_fetched_of_a_job_are_drawn(tmp_path: Path) -> None:
    run = leave(tmp_path)
    (run / "debugger").rename(run / "whole")
    (run / "whole" / "trial").rename(run / "debugger")
    assert len(part(run).charts) == 2


def test_what_stopped_is_said_first(tmp_path: Path) -> None:
    stopped = {"status": {**STATUS, "stopped": "trial: No space left on device"}}
    run = leave(tmp_path, stopped_by="VanishingGradient", damaged=["a", "b"], **stopped)
    (run / "debugger" / "replay-0.pt").write_bytes(b"")
    page = Page(write_report(run, None))
    assert len(page.all("p", "warn")) == 3
    assert "VanishingGradient ended the training, as debugger.actions asked." in page.text
    assert "what came later was not judged: trial: No space left on device." in page.text
    assert "debugger/replay-0.pt keeps its batch" in page.text
    assert "2 places could not be read" in page.text


def test_damage_of_the_trial_is_told_and_the_rest_drawn(tmp_path: Path) -> None:
    run = leave(tmp_path)
    event = sorted((run / "debugger" / "trial" / "events").rglob("*.tfevents"))[3]
    event.write_bytes(event.read_bytes()[:20])
    found = part(run)
    assert any("cannot be read" in sentence for sentence in found.damaged)
    assert len(found.charts[0].lines[0].points) == 29


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("verdicts"),
        lambda content: content["verdicts"][0].pop("points"),
        lambda content: content["verdicts"][0].update(status="Fine"),
        lambda content: content["verdicts"][0].update(findings=["old"]),
        lambda content: content["verdicts"].append("old"),
        lambda content: content.update(status="trial"),
        lambda content: content.update(damaged=1),
    ],
)
def test_findings_of_another_form_are_one_sentence(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    run = leave(tmp_path)
    change(run, spoil)
    with pytest.raises(RunError, match=r"debugger/findings\.json is damaged .*Copy the run again"):
        write_report(run, None)


def test_hostile_words_stay_text(tmp_path: Path) -> None:
    run = leave(tmp_path)
    hostile = '"><script>alert(1)</script>'

    def attack(content: dict[str, Any]) -> None:
        for finding in content["verdicts"][0]["findings"]:
            finding.update(tensor=hostile, numbers=hostile)
        content["status"]["stopped"] = hostile

    change(run, attack)
    page = Page(write_report(run, None))
    assert len(page.all("script")) == 1
    assert "<script>alert" not in page.source


def test_long_trainings_stay_small(tmp_path: Path) -> None:
    run = leave(tmp_path, 350)
    loss, gradients = part(run).charts
    assert len(loss.lines[0].points) <= MOST_POINTS
    assert len(gradients.lines[0].points) <= MOST_POINTS
    assert write_report(run, None).stat().st_size < 120_000


def test_thinned_points_are_means_and_keep_what_is_no_number() -> None:
    points = [(float(x), float(x)) for x in range(8)]
    assert thinned(points, 4) == [(0.5, 0.5), (2.5, 2.5), (4.5, 4.5), (6.5, 6.5)]
    points[3] = (3.0, float("nan"))
    assert [y == y for _, y in thinned(points, 4)] == [True, False, True, True]
    assert thinned(points[:3], 4) == points[:3]


def test_evenly_keeps_both_ends() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly(range(3), 4) == [0, 1, 2]


def test_near_marks_are_one_and_numbers_have_room() -> None:
    marks = [Mark(0, 1, "a"), Mark(1, 2, "b"), Mark(12, 3, "c"), Mark(24, 4, "d")]
    parts = drawn(marks, Scale(0, 100, 0, 100))
    labels = [(node.text, node.get("y")) for node in parts if node.tag == "text"]
    assert [text for text, _ in labels] == ["1,2", "3", "4"]
    assert len({y for _, y in labels}) == 2
    assert parts[0][0].text == "a\nb"
    many = drawn([replace(marks[0], number=number) for number in range(1, 13)], Scale(-1, 1, 0, 90))
    assert many[1].text == "1–12"
    assert (many[0][0].text or "").endswith("and 4 more")


def test_the_report_imports_no_torch() -> None:
    code = "import sys, sagelight.reporting.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_are_no_gradients(tmp_path: Path) -> None:
    assert all(WEIGHT not in line.name for line in part(leave(tmp_path)).charts[1].lines)

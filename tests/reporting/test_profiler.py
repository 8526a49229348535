from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiling.made import MINUTE, START, gpu_machine, leave_metrics, leave_steps, step
from reporting.page import Page
from sagelight.errors import RunError
from sagelight.files import write_json
from sagelight.profiling.clock import PHASES, StepTimes
from sagelight.profiling.findings import evaluate, write_findings
from sagelight.profiling.phases import Start, steps_file
from sagelight.profiling.profile import Profile
from sagelight.profiling.rules.catalogue import build_rules
from sagelight.reporting.curves import BOTTOM, LEFT, RIGHT, TOP
from sagelight.reporting.profiler import ProfilerPart, profiler_part
from sagelight.reporting.report import write_report
from sagelight.reporting.step_timeline import MOST_COLUMNS
from sagelight.reporting.training_time import TrainingTime
from sagelight.reporting.utilisation import MOST_POINTS

RULES = ("Dataloader", "CPUBottleneck", "StepOutlier", "OverallSystemUsage")


def at_their_times(
    folder: Path, steps: Sequence[StepTimes], start: Start = START, batches: int = 10
) -> None:
    """Write steps as if each had begun when the one before it ended."""
    path = leave_steps(folder, steps, start, batches)
    lines, t = [], start.t
    for text in path.read_text().splitlines():
        line = json.loads(text)
        if line["kind"] == "step":
            line["t"] = t
            t += sum(line[name] for name in PHASES)
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")


def judge(folder: Path, stopped: str = "", missing: Sequence[str] = ()) -> None:
    profile = Profile.read(folder)
    verdicts = evaluate(profile, build_rules(RULES, {}))
    write_findings(folder, profile, verdicts, stopped, list(missing))


def leave(run: Path, count: int = 40, data: float = 0.3, **judged: Any) -> Path:
    """A run on a machine with two GPUs; each step waits for its photos, by default most of the time."""
    folder = run / "profiler"
    at_their_times(folder, [step(data)] * count, replace(START, device="cuda", workers=1))
    leave_metrics(folder, gpu_machine(cpu=40, wait=5, gpus=(20, 30)))
    judge(folder, **judged)
    return run


def part(run: Path) -> ProfilerPart:
    found = profiler_part(run)
    assert found is not None
    return found


def test_where_the_time_went(tmp_path: Path) -> None:
    run = leave(tmp_path)
    with (run / "profiler" / steps_file("algo-1", 0)).open("a") as file:
        file.write('{"kind":"validation","epoch":0,"t":1,"seconds":8.0}\n')
        file.write('{"kind":"checkpoint","epoch":0,"t":1,"seconds":1.96}\n')
    found = part(run)
    assert {share.name: round(share.seconds, 2) for share in found.shares} == {
        "waiting for data": 12.0,
        "forward": 1.2,
        "backward": 2.4,
        "optimizer": 0.4,
        "other": 0.04,
        "validation": 8.0,
        "checkpoints": 1.96,
    }
    assert sum(share.share for share in found.shares) == pytest.approx(1)
    text = Page(write_report(run, None)).text
    assert "Where the time went: 40 steps" in text
    assert "waiting for data 46.2% 12.0 s" in text


def test_the_rules_say_what_to_type_and_what_it_gains(tmp_path: Path) -> None:
    page = Page(write_report(leave(tmp_path), None))
    assert [row["class"] for row in page.all("tr") if "class" in row] == [
        "IssuesFound",
        "NotEvaluated",
        "NotEvaluated",
        "NoIssuesFound",
    ]
    for words in (
        "1 of 4 rules found something; 2 were not evaluated.",
        "Dataloader IssuesFound",
        "75 % of the steps' time is waiting for photos",
        "It means: the photos come too slowly, or from too many processes.",
        "Type data.num_workers=8 (now 1). Gain: up to",
        "and it judges from",
        "algo- 1 GPUUtilization",
        "A GPU works later than it is told to",
    ):
        assert words in page.text
    assert 'href="#profiler"' in page.source


def test_columns_are_as_wide_as_their_steps_and_as_high(tmp_path: Path) -> None:
    folder = tmp_path / "profiler"
    at_their_times(folder, [step(0.1), step(0.3)])
    judge(folder)
    timeline = part(tmp_path).charts[0]
    assert timeline.title == "Time of a step, in milliseconds"
    over = [node for node in ET.fromstring(timeline.svg).iter() if node.get("class") == "over"]
    widths = [float(node.attrib["width"]) for node in over]
    assert widths[1] / widths[0] == pytest.approx(0.401 / 0.201, rel=0.01)
    assert sum(widths) == pytest.approx(RIGHT - LEFT, abs=0.1)
    assert "epoch 1, batch 2: 401 ms a step: waiting for data 300 ms" in timeline.svg
    heights = re.findall(r'phase data" d="M[\d.]+ ([\d.]+)H[\d.]+V([\d.]+)', timeline.svg)
    assert float(heights[0][0]) == BOTTOM
    # 100 of 500 ms.
    assert float(heights[0][1]) == pytest.approx(BOTTOM - (BOTTOM - TOP) / 5, abs=0.1)


def test_one_slow_step_does_not_flatten_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "profiler"
    at_their_times(folder, [step(30.0), *[step(0.1)] * 20])
    judge(folder)
    timeline = part(tmp_path).charts[0]
    assert timeline.note == "1 of 21 columns are cut off, the slowest with 30.1 s a step"
    assert ">1000<" in timeline.svg


def test_many_steps_and_samples_stay_small(tmp_path: Path) -> None:
    folder = tmp_path / "profiler"
    at_their_times(folder, [step(0.1)] * 3000, batches=500)
    leave_metrics(folder, gpu_machine(count=1200))
    judge(folder)
    timeline, usage = part(tmp_path).charts
    assert timeline.svg.count('class="over"') <= MOST_COLUMNS + 6
    assert max(len(line.points) for line in usage.lines) <= MOST_POINTS + 1
    assert write_report(tmp_path, None).stat().st_size < 130_000


def test_utilisation_is_the_mean_of_cores_and_of_gpus(tmp_path: Path) -> None:
    usage = part(leave(tmp_path)).charts[1]
    means = {line.name: sum(y for _, y in line.points) / len(line.points) for line in usage.lines}
    assert means == pytest.approx(
        {"GPU": 25, "GPU memory": 80, "CPU": 40, "waiting for disk": 5}, abs=0.5
    )
    assert all(line.points[0][0] >= 0 for line in usage.lines)
    assert usage.lines[0].points[-1][0] == pytest.approx(29.5, abs=0.1)


def test_machines_have_a_chart_each(tmp_path: Path) -> None:
    folder = tmp_path / "profiler"
    for number in range(1, 7):
        leave_metrics(folder, gpu_machine(count=5), f"algo-{number}")
    found = part(tmp_path)
    assert [chart.title for chart in found.charts] == [
        f"Utilisation of algo-{number}, in percent" for number in range(1, 5)
    ]
    assert "drawn are the first 4 of 6 machines" in found.notes
    assert "No step was measured." in Page(write_report(tmp_path, None)).text


def test_the_pause_before_a_run_was_continued_takes_no_room(tmp_path: Path) -> None:
    folder = tmp_path / "profiler"
    at_their_times(folder, [step(0.4)] * 10)
    path = folder / steps_file("algo-1", 0)
    before = path.read_text()
    path.unlink()
    at_their_times(folder, [step(0.4)] * 10, replace(START, t=MINUTE + 9000))
    path.write_text(before + path.read_text())
    time = TrainingTime.of(Profile.read(folder))
    assert time is not None
    assert time.total == pytest.approx(2 * 5.01, abs=0.01)
    assert time.continued == [pytest.approx(5.01, abs=0.01)]
    assert time(MINUTE + 4000) == pytest.approx(5.01, abs=0.01)
    assert time(MINUTE + 9001) == pytest.approx(6.01, abs=0.01)
    assert time.unit == ("seconds", 1.0)
    assert ">continued<" in part(tmp_path).charts[0].svg


def test_a_run_without_a_profiler_shows_nothing_of_it(tmp_path: Path) -> None:
    assert profiler_part(tmp_path) is None
    source = Page(write_report(tmp_path, None)).source
    assert 'id="profiler"' not in source
    assert "#profiler" not in source


def test_a_training_that_has_not_ended_shows_what_it_has(tmp_path: Path) -> None:
    run = leave(tmp_path)
    (run / "profiler" / "findings.json").unlink()
    page = Page(write_report(run, None))
    assert "profiler/findings.json is missing: no rule has judged" in page.text
    assert len(page.all("svg")) == 2


def test_an_empty_folder_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "profiler").mkdir()
    text = Page(write_report(tmp_path, None)).text
    assert "No step was measured. profiler/findings.json is missing" in text


def test_what_stopped_or_could_not_be_measured_is_said(tmp_path: Path) -> None:
    run = leave(tmp_path, stopped="the disk is full; nothing is measured", missing=["no /proc"])
    with (run / "profiler" / steps_file("algo-1", 0)).open("a") as file:
        file.write('{"kind": "st')
    page = Page(write_report(run, None))
    assert len(page.all("p", "warn")) == 1
    assert "The disk is full; nothing is measured." in page.text
    assert "No /proc." in page.text
    assert "1 line of the measurements could not be read." in page.text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("verdicts"),
        lambda content: content["verdicts"][0].update(findings=[{"where": "algo-1"}]),
        lambda content: content["verdicts"][0].update(numbers=["old"]),
        lambda content: content.update(missing=1),
    ],
)
def test_findings_of_another_form_are_one_sentence(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    path = leave(tmp_path) / "profiler" / "findings.json"
    content = json.loads(path.read_text())
    spoil(content)
    write_json(path, content)
    with pytest.raises(RunError, match=r"profiler/findings\.json is damaged .*Copy the run again"):
        write_report(tmp_path, None)

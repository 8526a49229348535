from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from profiling.made import (
    PATIENCE,
    START,
    Metrics,
    gpu_machine,
    leave_metrics,
    leave_steps,
    step,
    verdicts,
)
from sagelight.config.compose import compose
from sagelight.errors import ConfigError
from sagelight.profiling.clock import StepTimes
from sagelight.profiling.findings import as_sentences, evaluate, phases, write_findings
from sagelight.profiling.profile import Profile
from sagelight.profiling.rules.base import Judgement, ProfilerRule
from sagelight.profiling.rules.catalogue import RULES, build_rules
from sagelight.rulebook import parameters_of

HERE = Path("profiler")
GPU_RULES = {
    "CPUBottleneck",
    "IOBottleneck",
    "LowGPUUtilization",
    "GPUMemoryIncrease",
    "BatchSize",
    "LoadBalancing",
}
# smdebug-rulesconfig 1.0.1, profiler_rules/rules.py.
AWS_DEFAULTS = {
    "BatchSize": {
        "cpu_threshold_p95": 70,
        "gpu_threshold_p95": 70,
        "gpu_memory_threshold_p95": 70,
        "patience": 1000,
        "window": 500,
    },
    "CPUBottleneck": {"threshold": 50, "gpu_threshold": 10, "cpu_threshold": 90, "patience": 1000},
    "Dataloader": {"min_threshold": 70, "max_threshold": 200},
    "GPUMemoryIncrease": {"increase": 5, "patience": 1000, "window": 10},
    "IOBottleneck": {"threshold": 50, "gpu_threshold": 10, "io_threshold": 50, "patience": 1000},
    "LoadBalancing": {"threshold": 0.5, "patience": 1000},
    "LowGPUUtilization": {"threshold_p95": 70, "threshold_p5": 10, "window": 500, "patience": 1000},
    "MaxInitializationTime": {"threshold": 20},
    "OverallSystemUsage": {},
    "StepOutlier": {"stddev": 3, "mode": None, "n_outliers": 10},
}


def test_names_parameters_and_defaults_are_those_of_aws() -> None:
    ours = {name: parameters_of(rule) for name, rule in RULES.items()}
    assert ours == {n: {**p, "scan_interval_us": 60_000_000} for n, p in AWS_DEFAULTS.items()}


def test_a_healthy_training_on_gpus_breaks_no_rule() -> None:
    leave_metrics(HERE, gpu_machine())
    leave_steps(HERE, [step() for _ in range(200)])
    found = verdicts(HERE)
    assert {verdict.status for verdict in found.values()} == {"NoIssuesFound"}
    assert all(verdict.points for verdict in found.values())


FAULTS: dict[str, Metrics] = {
    "CPUBottleneck": gpu_machine(cpu=98, gpus=(3, 4)),
    "IOBottleneck": gpu_machine(wait=70, gpus=(3, 4)),
    "LowGPUUtilization": gpu_machine(gpus=(40, 41)),
    "GPUMemoryIncrease": gpu_machine(memory=lambda place: 20.0 + place),
    "BatchSize": gpu_machine(gpus=(50, 51), memory=lambda place: 20),
    "LoadBalancing": gpu_machine(gpus=(95, 75)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_ails_a_gpu_is_found_with_what_to_type_and_what_it_gains(name: str) -> None:
    leave_metrics(HERE, FAULTS[name])
    verdict = verdicts(HERE)[name]
    assert verdict.status == "IssuesFound"
    assert verdict.found == len(verdict.findings) > 0
    for finding in verdict.findings:
        assert "algo-1" in finding.where
        assert re.search(r"(data|trainer|features)\.\w+", finding.advice)
        assert finding.gain


def test_a_gpu_that_works_by_fits_and_starts() -> None:
    leave_metrics(HERE, gpu_machine() | {("gpu", "gpu0", "GPUUtilization"): [95, 95, 95, 0] * 15})
    [finding] = verdicts(HERE)["LowGPUUtilization"].findings
    assert "by fits and starts" in finding.numbers
    assert "data.num_workers" in finding.advice


def test_few_samples_are_not_judged_and_the_count_is_told() -> None:
    leave_metrics(HERE, gpu_machine(PATIENCE, cpu=98, gpus=(3, 4)))
    found = verdicts(HERE)
    for name in GPU_RULES:
        assert found[name].status == "NotEvaluated"
        assert found[name].reason.startswith("20 data points, and it judges from 21 on")


def test_without_a_gpu_its_rules_judge_nothing_and_say_so() -> None:
    leave_metrics(HERE, gpu_machine(gpus=()))
    assert {verdicts(HERE)[name].reason for name in GPU_RULES} == {"no GPU was measured"}
    leave_steps(HERE, [step()] * 5)
    assert {verdicts(HERE)[n].reason for n in GPU_RULES} == {"this training uses no NVIDIA GPU"}
    leave_steps(
        HERE,
        [step()] * 5,
        replace(START, device="cuda", missing=["the GPU was not measured: type pip install"]),
    )
    assert "pip install" in verdicts(HERE)["BatchSize"].reason


def test_one_gpu_has_nobody_to_share_with() -> None:
    leave_metrics(HERE, gpu_machine(gpus=(90,)))
    assert verdicts(HERE)["LoadBalancing"].reason == "it needs two GPUs or more"


def dataloader(steps: Sequence[StepTimes], batches: int = 10, **start: object) -> tuple[str, str]:
    leave_steps(HERE, steps, replace(START, **start), batches)  # type: ignore[arg-type]
    verdict = verdicts(HERE)["Dataloader"]
    return verdict.status, " ".join(str(finding) for finding in verdict.findings)


SLOW = [step(data=0.3)] * 30


def test_too_many_loader_processes() -> None:
    status, told = dataloader([step()] * 30, cores=2, workers=16)
    assert status == "IssuesFound"
    assert "16 loader processes on 2 cores: Type data.num_workers=2. Gain: the memory of 14" in told


def test_the_processes_of_a_machine_are_counted_together_and_told_once() -> None:
    for rank in (0, 1):
        leave_steps(HERE, [step()] * 30, replace(START, rank=rank, processes=2, workers=9))
    assert verdicts(HERE)["Dataloader"].found == 1


def test_a_slow_loader_with_too_few_processes() -> None:
    status, told = dataloader(SLOW, workers=0)
    assert status == "IssuesFound"
    assert "75 % of the steps' time is waiting for photos (300 ms a step)" in told
    assert "Type data.num_workers=8 (now 0). Gain: up to 75 % of the training time." in told


def test_a_slow_loader_with_processes_enough() -> None:
    status, told = dataloader(SLOW, workers=8, frozen=True)
    assert status == "IssuesFound"
    assert "data.image_size=224" in told
    assert "features.cache=on" in told


def test_on_a_gpu_small_photos_are_worth_waiting_less_for() -> None:
    quick = [step(data=0.1)] * 250
    assert dataloader(quick, workers=1, batch_size=64)[0] == "NoIssuesFound"
    Path(HERE / "steps.algo-1.0.jsonl").unlink()
    assert dataloader(quick, workers=1, batch_size=64, device="cuda")[0] == "IssuesFound"


@pytest.mark.parametrize(
    ("steps", "start"),
    [
        ([step(data=0.005)] * 30, {"workers": 0}),
        # Half of the time, for tiny photos: seconds together.
        ([step(data=0.09)] * 30, {"workers": 0}),
        # A loader that starts at every epoch.
        ([step(data=2.0 if place % 10 == 0 else 0.001) for place in range(30)], {}),
        ([step(data=2.0 if place < 3 else 0.001) for place in range(30)], {"workers": 4}),
    ],
    ids=["no processes", "tiny photos", "start of an epoch", "start of the training"],
)
def test_a_healthy_loader(steps: list[StepTimes], start: dict[str, object]) -> None:
    assert dataloader(steps, **start)[0] == "NoIssuesFound"


def test_a_crowded_machine_is_not_the_loaders_fault() -> None:
    crowded = [replace(step(data=0.4), data_queued=0.35, queued=0.38, core=0.1)] * 30
    assert dataloader(crowded, workers=0)[0] == "NoIssuesFound"
    Path(HERE / "steps.algo-1.0.jsonl").unlink()
    waiting = [replace(step(data=0.08), queued=0.06, core=0.02)] * 30
    assert dataloader(waiting, workers=8)[0] == "NoIssuesFound"
    Path(HERE / "steps.algo-1.0.jsonl").unlink()
    assert dataloader([replace(each, queued=0.0) for each in waiting], workers=8)[0] == (
        "IssuesFound"
    )


def test_a_loader_is_judged_from_ten_steps_on() -> None:
    leave_steps(HERE, SLOW[:8])
    verdict = verdicts(HERE)["Dataloader"]
    assert (verdict.status, verdict.points) == ("NotEvaluated", 5)
    assert "it judges from 10 on" in verdict.reason


def outliers(slow: Callable[[int], bool], count: int = 400, scale: float = 10) -> str:
    leave_steps(HERE, [step(scale=scale if slow(place) else 1) for place in range(count)])
    return verdicts(HERE)["StepOutlier"].status


def test_steps_that_stall_again_and_again() -> None:
    assert outliers(lambda place: place % 25 == 7) == "IssuesFound"
    [finding] = verdicts(HERE)["StepOutlier"].findings
    assert "16 of 358 steps" in finding.numbers
    assert "does something else run on this machine" in finding.advice


def test_a_single_stall_and_the_first_step_of_each_epoch_are_no_outliers() -> None:
    assert outliers(lambda place: place == 77, scale=50) == "NoIssuesFound"
    Path(HERE / "steps.algo-1.0.jsonl").unlink()
    assert outliers(lambda place: place % 10 == 0) == "NoIssuesFound"


def test_the_tail_of_many_healthy_steps_is_no_outlier() -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.4, 5000)
    leave_steps(HERE, [step(scale=each) for each in noise])
    verdict = verdicts(HERE)["StepOutlier"]
    assert verdict.status == "NoIssuesFound"
    assert verdict.numbers["steps.algo-1.0.jsonl"]["p99"] > 0.2


def test_outliers_need_a_hundred_training_steps() -> None:
    assert outliers(lambda place: False, 100) == "NotEvaluated"
    evaluation = verdicts(HERE, StepOutlier={"mode": "EVAL"})["StepOutlier"]
    assert evaluation.reason == "mode=EVAL: only the steps of TRAIN are timed"


def test_a_late_first_step() -> None:
    leave_steps(HERE, [step()] * 2, replace(START, began=START.t - 25 * 60))
    verdict = verdicts(HERE)["MaxInitializationTime"]
    assert verdict.status == "IssuesFound"
    assert "25 minutes before the first step" in verdict.findings[0].numbers
    assert (
        verdicts(HERE, MaxInitializationTime={"threshold": 30})["MaxInitializationTime"].status
        == "NoIssuesFound"
    )


def test_usage_is_told_in_numbers_and_never_found_wrong() -> None:
    leave_metrics(HERE, gpu_machine(cpu=100))
    verdict = verdicts(HERE)["OverallSystemUsage"]
    assert (verdict.status, verdict.points) == ("NoIssuesFound", 60)
    assert verdict.numbers["algo-1 GPUMemoryUtilization"]["p95"] == 80
    assert {"min", "p50", "p95", "p99", "max"} == verdict.numbers["algo-1 CPUUtilization"].keys()


def test_nothing_measured_is_not_passed() -> None:
    assert {verdict.status for verdict in verdicts(Path("nothing")).values()} == {"NotEvaluated"}


def test_a_node_of_sagemakers_threads_is_one_moment() -> None:
    """Its agent measures cores and GPUs some milliseconds apart."""
    leave_metrics(HERE, gpu_machine(cpu=98, gpus=(3, 4)))
    [path] = HERE.rglob("*.json")
    lines = path.read_text().replace(".0}", ".012}").splitlines()
    moved = [each.replace(".5}", ".52}") if '"gpu' in each else each for each in lines]
    path.write_text("\n".join(moved) + "\n")
    assert verdicts(HERE)["CPUBottleneck"].status == "IssuesFound"


@dataclass
class Raises(ProfilerRule):
    means: ClassVar[str] = "it breaks"

    def judge(self, profile: Profile) -> Judgement:
        raise ZeroDivisionError("by nothing")


def test_a_rule_that_raises_ends_alone() -> None:
    leave_steps(HERE, SLOW, replace(START, workers=0))
    profile = Profile.read(HERE)
    found = evaluate(profile, [Raises(), *build_rules(["Dataloader"], {})])
    assert [verdict.status for verdict in found] == ["Error", "IssuesFound"]
    assert found[0].reason.startswith("ZeroDivisionError: by nothing (judge, line ")
    told = as_sentences(found)
    assert told[1].startswith("profiler: Dataloader: algo-1: 75 % of")
    content = write_findings(HERE, profile, found, "", [])
    assert content["verdicts"][1]["findings"][0]["advice"].startswith("Type data.num_workers=8")
    assert phases(profile)["backward"] == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("profiler.rules=[Dataloder]", "there is no rule Dataloder. Did you mean Dataloader?"),
        (
            "profiler.parameters={StepOutlier: {n_outlier: 3}}",
            "StepOutlier has no parameter n_outlier. Did you mean n_outliers?",
        ),
        ("profiler.parameters={Dataloader: {max_threshold: many}}", "that is no float"),
        ("profiler.parameters={BatchSize: {window: 2.5}}", "that is no int"),
        ("profiler.parameters={BatchSize: {window: -2}}", "must not be below 0"),
        ("profiler.parameters={BatchSize: 3}", "its parameters are a mapping"),
    ],
)
def test_a_wrong_rule_or_parameter_is_refused_before_training(typed: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose(["experiment=digits", typed])
    assert message in str(refused.value)

"""Tuning jobs of the rehearsal, seen through boto3."""

from __future__ import annotations

import random
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rehearsal.conftest import Stage
from sagelight.rehearsal.tuning import sample

TRIAL = """
import json, os, pathlib, sys
values = json.loads(pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "input/config/hyperparameters.json").read_text())
assert values["_tuning_objective_metric"] == "objective"
if values["kind"] == "broken": raise ValueError("broken on purpose")
if values["kind"] == "weak":
    import time
    print("objective=0.1", flush=True)
    time.sleep(60)
elif values["kind"] != "silent": print(f"objective={values['kind']}", flush=True)
"""


def request(stage: Stage, name: str, kinds: list[str], **config: Any) -> dict[str, Any]:
    definition = stage.request(name, TRIAL)
    definition["StaticHyperParameters"] = definition.pop("HyperParameters")
    del definition["TrainingJobName"]
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Grid",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "objective"},
            "ResourceLimits": {"MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"CategoricalParameterRanges": [{"Name": "kind", "Values": kinds}]},
            **config,
        },
        "TrainingJobDefinition": definition,
    }


def run(stage: Stage, name: str, kinds: list[str], **config: Any) -> dict[str, Any]:
    stage.sagemaker.create_hyper_parameter_tuning_job(**request(stage, name, kinds, **config))
    return stage.ended(
        lambda: stage.sagemaker.describe_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name
        )
    )


def trials(stage: Stage, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stage.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name
    )["TrainingJobSummaries"]
    return found


def test_a_grid_runs_every_combination_in_parallel_and_picks_the_best(stage: Stage) -> None:
    found = run(stage, "grid", ["0.5", "0.75", "broken", "silent"])
    assert found["HyperParameterTuningJobStatus"] == "Completed"
    best = found["BestTrainingJob"]
    assert best["TunedHyperParameters"] == {"kind": "0.75"}
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.75
    counted = found["TrainingJobStatusCounters"]
    assert (counted["Completed"], counted["NonRetryableError"]) == (3, 1)
    assert found["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 0, "Failed": 2}
    rows = sorted(trials(stage, "grid"), key=lambda row: row["CreationTime"])
    # Two at a time: the second began before the first ended, the third did not.
    assert rows[1]["CreationTime"] < rows[0]["TrainingEndTime"]
    assert rows[2]["CreationTime"] >= min(rows[0]["TrainingEndTime"], rows[1]["TrainingEndTime"])


def test_the_smallest_is_best_when_minimizing(stage: Stage) -> None:
    found = run(
        stage,
        "small",
        ["0.5", "0.75"],
        HyperParameterTuningJobObjective={"Type": "Minimize", "MetricName": "objective"},
    )
    assert found["BestTrainingJob"]["TunedHyperParameters"] == {"kind": "0.5"}


def test_a_study_whose_trials_all_fail_fails(stage: Stage) -> None:
    found = run(stage, "doomed", ["broken"])
    assert found["HyperParameterTuningJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("All training jobs failed.")
    assert "BestTrainingJob" not in found
    assert "broken on purpose" in trials(stage, "doomed")[0]["FailureReason"]


def test_an_objective_that_is_never_printed_fails_the_study(stage: Stage) -> None:
    found = run(stage, "silent", ["silent"])
    assert found["HyperParameterTuningJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("No objective metrics found")


def test_a_target_ends_a_study_early(stage: Stage) -> None:
    found = run(
        stage,
        "target",
        ["0.9", "0.1", "0.2", "0.3"],
        ResourceLimits={"MaxParallelTrainingJobs": 1},
        TuningJobCompletionCriteria={"TargetObjectiveMetricValue": 0.8},
    )
    assert found["HyperParameterTuningJobStatus"] == "Completed"
    assert len(trials(stage, "target")) == 1


def test_a_trial_that_falls_behind_is_stopped_early(stage: Stage) -> None:
    found = run(
        stage,
        "early",
        ["0.9", "weak", "0.5"],
        ResourceLimits={"MaxParallelTrainingJobs": 1},
        TrainingJobEarlyStoppingType="Auto",
    )
    assert found["BestTrainingJob"]["TunedHyperParameters"] == {"kind": "0.9"}
    states = {
        r["TunedHyperParameters"]["kind"]: r["TrainingJobStatus"] for r in trials(stage, "early")
    }
    assert states["weak"] == "Stopped"
    assert states["0.9"] == "Completed"


def test_a_study_can_be_stopped_and_names_are_unique(stage: Stage) -> None:
    body = request(stage, "stopped", [f"0.{n}" for n in range(9)])
    stage.sagemaker.create_hyper_parameter_tuning_job(**body)
    with pytest.raises(ClientError) as refusal:
        stage.sagemaker.create_hyper_parameter_tuning_job(**body)
    assert refusal.value.response["Error"]["Code"] == "ResourceInUse"
    stage.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")
    found = stage.ended(
        lambda: stage.sagemaker.describe_hyper_parameter_tuning_job(
            HyperParameterTuningJobName="stopped"
        )
    )
    assert found["HyperParameterTuningJobStatus"] == "Stopped"
    assert len(trials(stage, "stopped")) < 9


def test_samples_lie_in_their_ranges_on_their_scales() -> None:
    ranges = {
        "ContinuousParameterRanges": [
            {"Name": "log", "MinValue": "0.0001", "MaxValue": "1.0", "ScalingType": "Logarithmic"},
            {
                "Name": "near",
                "MinValue": "0.5",
                "MaxValue": "0.999",
                "ScalingType": "ReverseLogarithmic",
            },
            {"Name": "even", "MinValue": "-1.0", "MaxValue": "1.0"},
        ],
        "IntegerParameterRanges": [
            {"Name": "whole", "MinValue": "1", "MaxValue": "3", "ScalingType": "Auto"}
        ],
        "CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "b"]}],
    }
    chance = random.Random(0)
    rows = [sample(ranges, chance) for _ in range(400)]
    logs = [float(row["log"]) for row in rows]
    assert all(1e-4 <= value <= 1 for value in logs)
    # Each decade gets its share: a quarter of the draws, give or take.
    assert 60 <= sum(value < 1e-3 for value in logs) <= 140
    assert sum(float(row["near"]) > 0.99 for row in rows) > 60
    assert all(-1 <= float(row["even"]) <= 1 for row in rows)
    assert {row["whole"] for row in rows} == {"1", "2", "3"}
    assert {row["kind"] for row in rows} == {"a", "b"}
    assert sample(ranges, random.Random(5)) == sample(ranges, random.Random(5))

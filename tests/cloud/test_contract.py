from __future__ import annotations

from typing import Any

import pytest

from cloud.studies import PAYLOAD, PLACE, study
from sagelight.cloud.contract import choices, violations
from sagelight.cloud.request import build_request


def broken(path: str, value: Any, *words: str) -> list[str]:
    """The violations of a request with one value changed; `...` takes the key away."""
    request = build_request(study(*words), PLACE, PAYLOAD)
    *parents, last = path.split(".")
    place: Any = request.body
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return violations(request.operation, request.body)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("RoleArn", ..., "RoleArn: is missing"),
        ("RoleArn", 5, "RoleArn: must be text, not 5"),
        ("RoleArn", "role", "RoleArn: 4 characters, and at least 20 are needed"),
        ("TrainingJobName", "a_b", "TrainingJobName: 'a_b' does not match "),
        ("TrainingJobName", "a" * 64, "TrainingJobName: 64 characters, and at most 63 are allowed"),
        ("ResourceConfig.InstanceType", "ml.g5.xlarg", "ResourceConfig.InstanceType: there is no ml.g5.xlarg. Did you mean ml.g5.xlarge"),
        ("StoppingCondition.MaxRuntimeInSeconds", 0, "StoppingCondition.MaxRuntimeInSeconds: 0 is below 1"),
        ("ResourceConfig.InstanceCount", "1", "ResourceConfig.InstanceCount: must be a whole number, not '1'"),
        ("ResourceConfig.KeepAlivePeriodInSeconds", 10**6, "ResourceConfig.KeepAlivePeriodInSeconds: 1000000 is above "),
        ("EnableNetworkIsolation", "no", "EnableNetworkIsolation: must be true or false, not 'no'"),
        ("StoppingCondition.MaxRuntimeInSecond", 5, "StoppingCondition.MaxRuntimeInSecond: is unknown. Did you mean MaxRuntimeInSeconds"),
        ("InputDataConfig", {}, "InputDataConfig: must be a list, not {}"),
        ("InputDataConfig", [], "InputDataConfig: 0 entries, and at least 1 are needed"),
        ("HyperParameters", [], "HyperParameters: must be a map, not []"),
        ("HyperParameters", {"k": "v" * 2501}, "HyperParameters.k: 2501 characters, and at most 2500 are allowed"),
        ("HyperParameters", {str(n): "" for n in range(101)}, "HyperParameters: 101 entries, and at most 100 are allowed"),
        ("ResourceConfig", "big", "ResourceConfig: must be a structure, not 'big'"),
        ("AlgorithmSpecification.TrainingInputMode", "Fast", "AlgorithmSpecification.TrainingInputMode: there is no Fast. Did you mean FastFile? One of "),
    ],
)  # fmt: skip
def test_a_training_request_with_one_fault_gets_one_sentence(
    path: str, value: Any, complaint: str
) -> None:
    # A text of the wrong length may break the pattern too.
    found = broken(path, value)
    assert len(found) <= 2
    assert found[0].startswith(complaint)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("HyperParameterTuningJobName", "a" * 33, "HyperParameterTuningJobName: 33 characters, and at most 32 are allowed"),
        ("HyperParameterTuningJobConfig.Strategy", "Bogus", "HyperParameterTuningJobConfig.Strategy: there is no Bogus"),
        ("HyperParameterTuningJobConfig.ResourceLimits.MaxRuntimeInSeconds", 5, "HyperParameterTuningJobConfig.ResourceLimits.MaxRuntimeInSeconds: 5 is below 120"),
    ],
)  # fmt: skip
def test_a_tuning_request_too(path: str, value: Any, complaint: str) -> None:
    assert any(found.startswith(complaint) for found in broken(path, value, "hpo=true"))


def test_all_faults_are_listed() -> None:
    request = build_request(study(), PLACE, PAYLOAD)
    assert len(violations("CreateTrainingJob", {**request.body, "RoleArn": "x", "More": 1})) == 3


def test_enumerations_are_the_services() -> None:
    assert "ml.g5.xlarge" in choices("TrainingInstanceType")

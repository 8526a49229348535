from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from botocore.model import ServiceModel

from cloud.studies import PAYLOAD, PLACE, study
from sagelight.cloud import contract
from sagelight.cloud.contract import choices, violations
from sagelight.cloud.request import Request, build_request


@cache
def request_of(words: tuple[str, ...] = ()) -> Request:
    return build_request(study(*words), PLACE, PAYLOAD)


def broken(path: str, value: Any, *words: str) -> list[str]:
    """The violations of a request with one value changed; `...` takes the key away."""
    request = deepcopy(request_of(words))
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
    request = request_of()
    assert len(violations("CreateTrainingJob", {**request.body, "RoleArn": "x", "More": 1})) == 3


def test_enumerations_are_the_services() -> None:
    assert "ml.g5.xlarge" in choices("TrainingInstanceType")


# Shapes as AWS describes them, every kind that its requests have.
WORD = {"type": "string", "min": 2, "max": 4}
WHOLE = {"type": "integer", "min": 0, "max": 9}
SHARE = {"type": "double", "min": 0.5, "max": 1}
NINE = [f"size{number}" for number in range(9)]
FEW = {"type": "string", "enum": NINE[:8]}
MANY = {"type": "string", "enum": NINE}


def complaints(monkeypatch: pytest.MonkeyPatch, value: Any, **shapes: dict[str, Any]) -> list[str]:
    """What is wrong with a value of the first shape, as the member `It` of a request."""
    put = {"type": "structure", "members": {"It": {"shape": next(iter(shapes))}}}
    operation = {"name": "Put", "input": {"shape": "Put"}}
    described = {"operations": {"Put": operation}, "shapes": {"Put": put, **shapes}}
    monkeypatch.setattr(contract, "service_model", lambda service: ServiceModel(described, service))
    return violations("Put", {"It": value})


@pytest.mark.parametrize(
    ("shape", "value", "complaint"),
    [
        (WORD, "ab", ""),
        (WORD, "abcd", ""),
        (WORD, "a", "It: 1 characters, and at least 2 are needed"),
        (WORD, "abcde", "It: 5 characters, and at most 4 are allowed"),
        (WORD, None, "It: must be text, not None"),
        ({"type": "string"}, "", ""),
        (WHOLE, 0, ""),
        (WHOLE, 9, ""),
        (WHOLE, -1, "It: -1 is below 0"),
        (WHOLE, 10, "It: 10 is above 9"),
        (WHOLE, True, "It: must be a whole number, not True"),
        (WHOLE, 1.0, "It: must be a whole number, not 1.0"),
        ({"type": "long"}, 10**12, ""),
        ({"type": "long"}, 0.5, "It: must be a whole number, not 0.5"),
        (SHARE, 1, ""),
        (SHARE, 0.5, ""),
        (SHARE, 0.49, "It: 0.49 is below 0.5"),
        (SHARE, 1.01, "It: 1.01 is above 1"),
        (SHARE, False, "It: must be a number, not False"),
        ({"type": "float"}, 0.25, ""),
        ({"type": "float"}, "1", "It: must be a number, not '1'"),
        ({"type": "boolean"}, False, ""),
        ({"type": "boolean"}, 1, "It: must be true or false, not 1"),
        (FEW, "size7", ""),
        (FEW, "sze7", f"It: there is no sze7. Did you mean size7, size6 or size5? One of {', '.join(NINE[:8])}."),
        (MANY, "x", "It: there is no x."),
        ({"type": "timestamp"}, 1, "It: timestamp is not checked"),
        ({"type": "string", "pattern": r"[\p{L}\p{Z}]+"}, "Grün ist", ""),
        ({"type": "string", "pattern": r"[\p{N}]+"}, "½", r"It: '½' does not match [\p{N}]+"),
        ({"type": "string", "pattern": r"[\p{N}]+"}, "12", ""),
        ({"type": "string", "pattern": r"\p{Print}"}, "~", ""),
        ({"type": "string", "pattern": r"\p{Print}"}, "é", r"It: 'é' does not match \p{Print}"),
        ({"type": "string", "pattern": r"[\uD800\uDC00-\uDBFF\uDFFF]"}, "😀", ""),
        ({"type": "string", "pattern": "a+"}, "aab", "It: 'aab' does not match a+"),
    ],
)  # fmt: skip
def test_a_value_is_held_against_its_shape(
    monkeypatch: pytest.MonkeyPatch, shape: dict[str, Any], value: Any, complaint: str
) -> None:
    assert complaints(monkeypatch, value, It=shape) == [complaint] * bool(complaint)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"Word": "ab"}, []),
        ({}, ["It.Word: is missing"]),
        ({"Word": "ab", "Inner": {"Wort": 1}}, ["It.Inner.Word: is missing", "It.Inner.Wort: is unknown. Did you mean Word or Words?"]),
        ({"Word": "ab", "x": 1}, ["It.x: is unknown."]),
        ({"Word": "a", "Words": []}, ["It.Word: 1 characters, and at least 2 are needed", "It.Words: 0 entries, and at least 1 are needed"]),
        ({"Word": "ab", "Words": ["ab", 3, "a"]}, ["It.Words: 3 entries, and at most 2 are allowed", "It.Words[1]: must be text, not 3", "It.Words[2]: 1 characters, and at least 2 are needed"]),
        ({"Word": "ab", "Words": {}}, ["It.Words: must be a list, not {}"]),
        ({"Word": "ab", "Pairs": {"a": 1, "ab": 10}}, ["It.Pairs key a: 1 characters, and at least 2 are needed", "It.Pairs.ab: 10 is above 9"]),
        ({"Word": "ab", "Pairs": {"ab": 1, "abc": 1, "abd": 1}}, ["It.Pairs: 3 entries, and at most 2 are allowed"]),
        ({"Word": "ab", "Pairs": []}, ["It.Pairs: must be a map, not []"]),
        ([], ["It: must be a structure, not []"]),
    ],
)  # fmt: skip
def test_what_is_inside_is_named_by_its_path(
    monkeypatch: pytest.MonkeyPatch, value: Any, found: list[str]
) -> None:
    members = {name: {"shape": name} for name in ("Word", "Words", "Pairs")}
    shapes = {
        "It": {
            "type": "structure",
            "required": ["Word"],
            "members": {**members, "Inner": {"shape": "It"}},
        },
        "Word": WORD,
        "Words": {"type": "list", "member": {"shape": "Word"}, "min": 1, "max": 2},
        "Pairs": {"type": "map", "key": {"shape": "Word"}, "value": {"shape": "Whole"}, "max": 2},
        "Whole": WHOLE,
    }
    assert complaints(monkeypatch, value, **shapes) == found


def test_another_services_requests_are_checked_by_its_own_description() -> None:
    assert violations("PutRule", {"Name": "a b"}, "events") == [
        r"Name: 'a b' does not match [\.\-_A-Za-z0-9]+"
    ]

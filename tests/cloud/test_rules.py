from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from cloud.studies import PAYLOAD, PLACE, study
from sagelight.cloud import rules
from sagelight.cloud.processes import in_words, of_machine, started_by_container
from sagelight.cloud.request import build_request
from sagelight.cloud.rules import broken_rules, combinations
from sagelight.config.setting import assign
from sagelight.tuning.space import Categorical, Continuous, Dimension, Integer, Space
from sagelight.tuning.study import Study


@cache
def plain() -> Study:
    return study()


def changed(settings: Mapping[str, Any], *dimensions: Dimension) -> Study:
    """One training with some settings changed, or a study around it."""
    config = deepcopy(plain().config)
    for name, value in settings.items():
        assign(config, name, value)
    return Study(config, Space(dimensions), ())


LR = Continuous("optimizer.lr", 1e-3, 0.1)
EPOCHS = Integer("trainer.max_epochs", 1, 30)
MODELS = Categorical("model", ("resnet18", "resnet50"))
HYPERBAND = {"hpo.strategy": "hyperband", "trainer.max_epochs": 9}
GRID = {"hpo.strategy": "grid"}
SPOT = {"cloud.spot": True, "cloud.max_runtime_seconds": 60}
WALLED = {"cloud.network_isolation": True}

ISOLATED = [
    "cloud.image=own",
    "cloud.isolated=true",
    "cloud.subnets=[subnet-1]",
    "cloud.security_groups=[sg-1]",
]


@pytest.mark.parametrize(
    ("settings", "dimensions", "sentence"),
    [
        ({"cloud.max_wait_seconds": 60}, (), "cloud.max_wait_seconds is for spot jobs. Type cloud.spot=true or cloud.max_wait_seconds=auto"),
        (SPOT | {"cloud.max_wait_seconds": 59}, (), "cloud.max_wait_seconds=59 is below cloud.max_runtime_seconds=60, and it includes the training. Type cloud.max_wait_seconds=auto"),
        (SPOT | {"cloud.max_wait_seconds": 60}, (), ""),
        (SPOT | {"cloud.keep_alive_seconds": 1}, (), "cloud.keep_alive_seconds keeps a machine that cloud.spot=true does not own. Type cloud.keep_alive_seconds=0 or cloud.spot=false"),
        ({"cloud.keep_alive_seconds": 1}, (), ""),
        ({"cloud.subnets": ["subnet-1"]}, (), "a VPC needs both cloud.subnets=[...] and cloud.security_groups=[...]"),
        ({"cloud.security_groups": ["sg-1"]}, (), "a VPC needs both cloud.subnets=[...] and cloud.security_groups=[...]"),
        ({"cloud.subnets": ["subnet-1"], "cloud.security_groups": ["sg-1"]}, (), ""),
        (WALLED, (), "cloud.network_isolation=true: AWS's image installs our requirements from the network when the job starts. Type cloud.image=URI of an image that holds requirements/train.txt"),
        (WALLED | {"cloud.image": "own"}, (), ""),
        ({"cloud.isolated": True, "cloud.image": "own"}, (), "cloud.isolated=true keeps jobs in a VPC of yours, with a gateway endpoint for S3. Type cloud.subnets=[...] and cloud.security_groups=[...], or cloud.network_isolation=true alone"),
        ({"cloud.tags": ["team"]}, (), "cloud.tags: team is no KEY=VALUE"),
        ({"cloud.tags": ["team=vision"], "cloud.environment": ["TZ=UTC"]}, (), ""),
        ({"cloud.environment": ["TZ"]}, (), "cloud.environment: TZ is no KEY=VALUE"),
        ({"cloud.tags": ["aws:team=a"]}, (), "cloud.tags: aws:team=a: tags that begin so are AWS's own. Type another name"),
        ({"cloud.tags": ["sagelight=no"]}, (), "cloud.tags: sagelight=no: tags that begin so are sagelight's own. Type another name"),
        (HYPERBAND, (LR, EPOCHS), "hpo.strategy=hyperband gives out epochs itself, so they cannot be varied too. Type trainer.max_epochs=10, the most that a trial may have"),
        (HYPERBAND | {"hpo.early_stopping": True}, (LR,), "hpo.strategy=hyperband stops weak trials itself. Type hpo.early_stopping=false"),
        (HYPERBAND | {"hpo.min_epochs": 10}, (LR,), "hpo.min_epochs=10 is above trainer.max_epochs=9. Type hpo.min_epochs=1"),
        (HYPERBAND | {"hpo.min_epochs": 9}, (LR,), ""),
        ({"hpo.strategy": "random", "hpo.early_stopping": True, "hpo.min_epochs": 99}, (LR, EPOCHS), ""),
        (GRID, (MODELS, LR), "hpo.strategy=grid tries listed values, and optimizer.lr is a range. Type optimizer.lr=A,B,C or hpo.strategy=random"),
        (GRID, (EPOCHS, MODELS), ""),
        (GRID, (Integer("seed", 0, 30),), "hpo.strategy=grid tries listed values, and seed is a range. Type seed=A,B,C or hpo.strategy=random"),
        (GRID | {"hpo.warm_start": ["a"]}, (MODELS,), "hpo.warm_start works with bayesian and random, not with hpo.strategy=grid. Type hpo.strategy=bayesian"),
        (HYPERBAND | {"hpo.warm_start": ["a"]}, (LR,), "hpo.warm_start works with bayesian and random, not with hpo.strategy=hyperband. Type hpo.strategy=bayesian"),
        ({"hpo.warm_start": ["a"]}, (LR,), ""),
        # Of one training nobody asks how it would be tuned.
        (GRID | {"hpo.warm_start": ["a"], "hpo.early_stopping": True}, (), ""),
    ],
)  # fmt: skip
def test_every_documented_rule_is_told_with_what_to_type(
    settings: dict[str, Any], dimensions: tuple[Dimension, ...], sentence: str
) -> None:
    assert broken_rules(changed(settings, *dimensions), 5, 1, None) == [sentence] * bool(sentence)


@pytest.mark.parametrize(
    ("settings", "dimensions", "sentence"),
    [
        (HYPERBAND | {"hpo.early_stopping": True}, (LR,), "hpo.strategy=hyperband stops weak trials itself. Type hpo.early_stopping=false"),
        # A tuning job's grid has thirty values of a setting at most; our own has as many as there are.
        (GRID, (Integer("seed", 0, 99),), ""),
        (GRID, (LR,), "hpo.strategy=grid tries listed values, and optimizer.lr is a range. Type optimizer.lr=A,B,C or hpo.strategy=random"),
        ({"hpo.warm_start": ["a"]}, (LR,), "hpo.warm_start is for tuning jobs. Type hpo.backend=tuner, or leave it out"),
        ({"cloud.instance_count": 2}, (LR,), "hpo.backend=job runs a study on one machine. Type cloud.instance_count=1 or hpo.backend=tuner"),
        ({}, (LR, MODELS), "hpo.backend=job takes the weights of one network along. Type hpo.backend=tuner to vary the model"),
        ({}, (LR, Categorical("model.backbone", ("vit_b_16",))), "hpo.backend=job takes the weights of one network along. Type hpo.backend=tuner to vary the model"),
        ({}, (LR, Continuous("model.dropout", 0.1, 0.5)), ""),
    ],
)  # fmt: skip
def test_a_study_inside_a_job_has_rules_of_its_own(
    settings: dict[str, Any], dimensions: tuple[Dimension, ...], sentence: str
) -> None:
    found = broken_rules(changed(settings, *dimensions), 5, 1, None, one_job=True)
    assert found == [sentence] * bool(sentence)


SIZES = Categorical("data.batch_size", ("8", "40", "64", "512"))


@pytest.mark.parametrize(
    ("settings", "dimensions", "photos", "sentence"),
    [
        ({"data.batch_size": 64}, (), 64, ""),
        ({"data.batch_size": 64}, (), 63, "data.batch_size=64 is larger than the 63 training photos. Type data.batch_size=15"),
        ({"data.batch_size": 64}, (), 3, "data.batch_size=64 is larger than the 3 training photos. Type data.batch_size=1"),
        ({"data.batch_size": 512}, (), 500, "data.batch_size=512 is larger than the 500 training photos. Type data.batch_size=32"),
        ({}, (SIZES,), 64, "data.batch_size=512 is larger than the 64 training photos. Type data.batch_size=8,40,64"),
        ({}, (Integer("data.batch_size", 8, 64),), 40, "data.batch_size=64 is larger than the 40 training photos. Type data.batch_size=8"),
    ],
)  # fmt: skip
def test_a_batch_has_no_more_photos_than_there_are(
    settings: dict[str, Any], dimensions: tuple[Dimension, ...], photos: int, sentence: str
) -> None:
    found = broken_rules(changed(settings, *dimensions), 5, 1, photos)
    assert found == [sentence] * bool(sentence)


@pytest.mark.parametrize("regex", ["objective=(no)?x", "loss=([0-9.]+)", None])
def test_an_objective_that_no_line_shows_is_found_before_it_costs(
    monkeypatch: pytest.MonkeyPatch, regex: str | None
) -> None:
    line = "sagelight-metrics epoch=1 train/loss=0.5 objective=0.25"
    monkeypatch.setattr(rules, "format_line", lambda epoch, values: line)
    named = [{"Name": "objective" if regex else "other", "Regex": regex}]
    monkeypatch.setattr(rules, "metric_definitions", lambda: named)
    assert broken_rules(plain(), 5, 1, None) == [
        f"training prints no objective that {regex} finds in {line!r}"
    ]


def test_every_gpu_of_every_machine_needs_its_share_of_a_batch() -> None:
    def problems(batch_size: int, *dimensions: Dimension) -> list[str]:
        settings = {"cloud.instance_count": 2, "data.batch_size": batch_size}
        return broken_rules(changed(settings, *dimensions), 5, 4, None)

    assert problems(16) == []
    (problem,) = problems(15)
    assert "Type data.batch_size=16 or more" in problem
    (problem,) = problems(16, Integer("data.batch_size", 8, 64))
    assert "data.batch_size=8 is divided over 8 processes" in problem


TWO = {"trainer.strategy": "ddp", "trainer.devices": 2}


@pytest.mark.parametrize(
    ("settings", "gpus", "part"),
    [
        (TWO, 4, "starts 4, one per GPU. Type trainer.devices=auto"),
        (TWO, 0, "trainer.devices=2, and each ml.g5.xlarge"),
        ({"trainer.strategy": "fsdp"}, 1, "trainer=fsdp divides a network over processes, and this job has one."),
    ],
)  # fmt: skip
def test_processes_that_no_machine_starts_are_refused(
    settings: dict[str, Any], gpus: int, part: str
) -> None:
    (problem,) = broken_rules(changed(settings), 5, gpus, None)
    assert part in problem


def test_the_processes_of_a_job_are_counted_and_told() -> None:
    sharded = {"trainer.strategy": "fsdp", "cloud.instance_count": 2, "data.batch_size": 30}
    two = changed(sharded)
    assert broken_rules(two, 5, 4, None) == []
    assert of_machine(two, 4, one_job=False) == 4
    assert in_words(two, 8) == "8 processes, fsdp: 3 or 4 of each batch's 30 photos each"
    assert in_words(plain(), 4) == "4 processes, ddp: 8 of each batch's 32 photos each"
    assert in_words(plain(), 1) == ""


def test_a_study_inside_a_job_starts_the_processes_of_its_trials_itself() -> None:
    alone, shared = changed({}, LR), changed({"trainer.strategy": "ddp"}, LR)
    assert of_machine(alone, 4, one_job=True) == 1
    assert of_machine(shared, 4, one_job=True) == 4
    assert not started_by_container(alone.config.cloud, 4, one_job=True)
    assert started_by_container(alone.config.cloud, 4, one_job=False)
    request = build_request(alone, PLACE, replace(PAYLOAD, gpus=4), one_job=True)
    assert "sagemaker_torch_distributed_enabled" not in request.body["HyperParameters"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["hpo=true"],
        ["cloud.spot=true"],
        ["cloud.image=own", "cloud.network_isolation=true"],
        ISOLATED,
    ],
)
def test_what_is_right_breaks_no_rule(words: list[str]) -> None:
    assert broken_rules(study(*words), 5, 1, 1000) == []


def test_more_than_thirty_ranges_are_refused_in_total() -> None:
    thirty = [Categorical(f"debugger.parameters.a.b{number}", ("1", "2")) for number in range(30)]
    assert broken_rules(changed({}, *thirty), 5, 1, None) == []
    assert broken_rules(changed({}, *thirty, LR), 5, 1, None) == [
        "31 settings are varied, and a tuning job takes 30. Fix some of them with key=value"
    ]


def test_the_hyperparameters_are_counted_with_the_tuners_own() -> None:
    sentence = (
        "101 hyperparameters, the tuner's own included, and at most 100 are allowed: "
        "put the settings into an experiment file of your own, and type experiment=FILE.yaml"
    )
    # Those that vary, and the name of the objective.
    tuned = changed({}, LR, EPOCHS)
    assert broken_rules(tuned, 97, 1, None) == []
    assert broken_rules(tuned, 98, 1, None) == [sentence]
    # A study inside a job has none of its own.
    assert broken_rules(tuned, 100, 1, None, one_job=True) == []
    assert broken_rules(tuned, 101, 1, None, one_job=True) == [sentence]


def test_a_grid_is_counted() -> None:
    words = Categorical("optimizer.lr", ("0.1", "0.2"))
    assert combinations(Space((words, Integer("trainer.max_epochs", 2, 4)))) == 6
    assert combinations(Space((words, MODELS, LR))) == 4
    assert combinations(Space()) == 1

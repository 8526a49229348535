from __future__ import annotations

from dataclasses import replace

import pytest

from cloud.studies import PAYLOAD, PLACE, study
from sagelight.cloud.processes import in_words, of_machine, started_by_container
from sagelight.cloud.request import build_request
from sagelight.cloud.rules import broken_rules, combinations

ISOLATED = [
    "cloud.image=own",
    "cloud.isolated=true",
    "cloud.subnets=[subnet-1]",
    "cloud.security_groups=[sg-1]",
]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["cloud.max_wait_seconds=60"], "cloud.max_wait_seconds is for spot jobs."),
        (
            ["cloud.spot=true", "cloud.max_wait_seconds=60"],
            "cloud.max_wait_seconds=60 is below cloud.max_runtime_seconds=14400",
        ),
        (
            ["cloud.spot=true", "cloud.keep_alive_seconds=60"],
            "cloud.keep_alive_seconds keeps a machine that cloud.spot=true does not own.",
        ),
        (["cloud.subnets=[subnet-1]"], "a VPC needs both"),
        (["cloud.network_isolation=true"], "Type cloud.image=URI of an image that holds"),
        (["cloud.isolated=true"], "cloud.isolated=true: AWS's image installs"),
        (["cloud.isolated=true"], "Type cloud.subnets=[...] and cloud.security_groups=[...]"),
        (["cloud.tags=[team]"], "cloud.tags: team is no KEY=VALUE"),
        (
            ["cloud.instance_count=2", "data.batch_size=3"],
            "data.batch_size=3 is divided over 2 processes, one per GPU, and each needs 2 photos.",
        ),
        (
            ["hpo=true", "hpo.strategy=hyperband"],
            "hpo.strategy=hyperband gives out epochs itself",
        ),
        (
            ["hpo=true", "hpo.strategy=hyperband", "trainer.max_epochs=9", "hpo.early_stopping=true"],
            "hpo.strategy=hyperband stops weak trials itself.",
        ),
        (
            ["hpo=true", "hpo.strategy=hyperband", "trainer.max_epochs=9", "hpo.min_epochs=10"],
            "hpo.min_epochs=10 is above trainer.max_epochs=9.",
        ),
        (["hpo=true", "hpo.strategy=grid"], "hpo.strategy=grid tries listed values, and optimizer.lr is a range."),
        (
            ["hpo=true", "hpo.strategy=grid", "optimizer.lr=0.1,0.2", "hpo.warm_start=[a]"],
            "hpo.warm_start works with bayesian and random",
        ),
        (["data.batch_size=64"], "data.batch_size=64 is larger than the 40 training photos. Type data.batch_size=10"),
        (["hpo=true"], "data.batch_size=512 is larger than the 40 training photos. Type data.batch_size=32"),
        (
            ["-m", "data.batch_size=range(8,65)"],
            "data.batch_size=64 is larger than the 40 training photos.",
        ),
    ],
)  # fmt: skip
def test_every_documented_rule_is_told_with_what_to_type(words: list[str], part: str) -> None:
    found = broken_rules(study(*words), 5, 1, 40)
    assert any(part in problem for problem in found), found


def test_every_gpu_of_every_machine_needs_its_share_of_a_batch() -> None:
    words = ["cloud.instance_type=ml.g5.12xlarge", "cloud.instance_count=2"]
    assert broken_rules(study(*words, "data.batch_size=16"), 5, 4, None) == []
    (problem,) = broken_rules(study(*words, "data.batch_size=15"), 5, 4, None)
    assert "Type data.batch_size=16 or more" in problem
    (problem,) = broken_rules(study(*words, "-m", "data.batch_size=range(8,65)"), 5, 4, None)
    assert "data.batch_size=8 is divided over 8 processes" in problem


@pytest.mark.parametrize(
    ("words", "gpus", "part"),
    [
        (["trainer=ddp", "trainer.devices=2"], 4, "starts 4, one per GPU. Type trainer.devices=auto"),
        (["trainer=ddp", "trainer.devices=2"], 0, "trainer.devices=2, and each ml.g5.xlarge"),
        (["trainer=fsdp"], 1, "trainer=fsdp divides a network over processes, and this job has one."),
    ],
)  # fmt: skip
def test_processes_that_no_machine_starts_are_refused(
    words: list[str], gpus: int, part: str
) -> None:
    (problem,) = broken_rules(study(*words), 5, gpus, None)
    assert part in problem


def test_the_processes_of_a_job_are_counted_and_told() -> None:
    two = study("cloud.instance_count=2", "trainer=fsdp", "data.batch_size=30")
    assert broken_rules(two, 5, 4, None) == []
    assert of_machine(two, 4, one_job=False) == 4
    assert in_words(two, 8) == "8 processes, fsdp: 3 or 4 of each batch's 30 photos each"
    assert in_words(study(), 4) == "4 processes, ddp: 8 of each batch's 32 photos each"
    assert in_words(study(), 1) == ""


def test_a_study_inside_a_job_starts_the_processes_of_its_trials_itself() -> None:
    plain, shared = study("hpo=true"), study("hpo=true", "trainer=ddp")
    assert of_machine(plain, 4, one_job=True) == 1
    assert of_machine(shared, 4, one_job=True) == 4
    assert not started_by_container(plain.config.cloud, 4, one_job=True)
    assert started_by_container(plain.config.cloud, 4, one_job=False)
    request = build_request(plain, PLACE, replace(PAYLOAD, gpus=4), one_job=True)
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
    names = [
        "seed", "data.image_size", "data.batch_size", "data.validation_fraction", "data.test_fraction", "data.split_seed",
        "augment.crop_scale", "augment.crop_ratio", "augment.horizontal_flip", "augment.rotation", "augment.rand_augment",
        "augment.rand_augment_magnitude", "augment.color_jitter", "augment.random_erasing", "augment.mixup_alpha",
        "augment.cutmix_alpha", "model.dropout", "finetune.backbone_lr_scale", "finetune.epochs_per_stage",
        "finetune.decay", "loss.label_smoothing", "optimizer.lr", "optimizer.weight_decay", "optimizer.momentum",
        "schedule.warmup", "schedule.final_scale", "schedule.step_every", "schedule.step_scale", "trainer.max_epochs",
        "trainer.accumulate_grad_batches", "trainer.gradient_clip_val",
    ]  # fmt: skip
    whole = {
        "seed", "data.image_size", "data.batch_size", "data.split_seed", "augment.rand_augment",
        "augment.rand_augment_magnitude", "finetune.epochs_per_stage", "trainer.max_epochs", "trainer.accumulate_grad_batches",
    }  # fmt: skip
    sweeps = [
        f"{name}={'7,8' if name in whole else '0.25,0.3' if 'crop_ratio' not in name else '1.2,1.3'}"
        for name in names
    ]
    sweeps[names.index("data.image_size")] = "data.image_size=64,65"
    found = broken_rules(study("-m", *sweeps), 5, 1, None)
    assert found == [
        "31 settings are varied, and a tuning job takes 30. Fix some of them with key=value"
    ]


def test_the_hyperparameters_are_counted_with_the_tuners_own() -> None:
    (problem,) = broken_rules(study("hpo=true"), 97, 1, None)
    assert problem.startswith("101 hyperparameters, the tuner's own included")


def test_a_grid_is_counted() -> None:
    space = study(
        "-m", "optimizer.lr=0.1,0.2", "trainer.max_epochs=range(2,5)", "model.dropout=0,0.5"
    ).space
    assert combinations(space) == 12

"""Where a study in the cloud runs, and what is sent for one that runs inside a job."""

from __future__ import annotations

import pytest

from cloud.studies import study
from sagelight.cloud.backend import choose_backend
from sagelight.cloud.rules import broken_rules
from sagelight.cloud.source import job_requirements
from sagelight.errors import ConfigError

FROZEN = ("hpo=true", "finetune=head", "augment=none")


@pytest.mark.parametrize(
    ("words", "backend"),
    [
        (FROZEN, "job"),
        ((*FROZEN, "model.dropout=0,0.3"), "job"),
        ((*FROZEN, "loss=cross_entropy,balanced"), "job"),
        (("hpo=true", "finetune=head", "augment=light", "features.views=4"), "job"),
        (("hpo=true",), "tuner"),
        (("hpo=true", "finetune=head", "augment=light"), "tuner"),
        ((*FROZEN, "features.cache=off"), "tuner"),
        ((*FROZEN, "model=resnet18,resnet50"), "tuner"),
        (("hpo=true", "augment=none", "finetune=head,full"), "tuner"),
        ((*FROZEN, "callbacks.ema_decay=0,0.9"), "job"),
        ((*FROZEN, "callbacks.early_stopping_patience=0,3"), "tuner"),
        ((*FROZEN, "hpo.warm_start=[earlier]"), "tuner"),
        ((*FROZEN, "hpo.backend=tuner"), "tuner"),
        (("hpo=true", "hpo.backend=job"), "job"),
    ],
)
def test_a_study_of_frozen_heads_is_one_job(words: tuple[str, ...], backend: str) -> None:
    chosen, why = choose_backend(study(*words))
    assert chosen == backend
    assert why


def test_the_other_door_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Type python launch/local\.py"):
        choose_backend(study("hpo=true", "hpo.backend=local"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["hpo.strategy=grid"], "optimizer.lr is a range"),
        (["hpo.warm_start=[earlier]"], "hpo.warm_start is for tuning jobs"),
        (["cloud.instance_count=2"], "runs a study on one machine"),
        (["model=resnet18,resnet50"], "the weights of one network"),
    ],
)
def test_what_one_job_cannot_do_is_told(words: list[str], part: str) -> None:
    found = broken_rules(study(*FROZEN, *words), 5, 1, 1000, one_job=True)
    assert any(part in problem for problem in found), found


def test_more_than_thirty_ranges_are_no_problem_inside_a_job() -> None:
    found = broken_rules(study(*FROZEN), 99, 1, 1000, one_job=True)
    assert found == []


def test_a_job_that_holds_a_study_installs_what_studies_need() -> None:
    assert "optuna==" in job_requirements(studies=True)
    assert "optuna" not in job_requirements()

from __future__ import annotations

import pytest

from sagelight.errors import ConfigError
from sagelight.tuning.space import Categorical, Continuous, Integer
from sagelight.tuning.study import read_study


def test_the_promised_words_choose_the_shipped_space() -> None:
    study = read_study(["experiment=resnet50", "data.root=photos", "hpo=true"])
    assert study.space.dimensions == (
        Continuous("optimizer.lr", 0.001, 0.1, "log"),
        Categorical("data.batch_size", ("32", "64", "128", "256", "512")),
        Integer("trainer.max_epochs", 2, 10),
    )
    assert study.config.model.backbone == "resnet50"
    assert study.tunes


@pytest.mark.parametrize("words", [["hpo=false"], []])
def test_without_them_one_configuration_is_trained(words: list[str]) -> None:
    study = read_study(["experiment=digits", *words])
    assert not study.tunes


def test_a_single_value_leaves_the_space_and_a_sweep_joins_it() -> None:
    study = read_study(
        ["hpo=true", "data.batch_size=16", "trainer.max_epochs=3,4", "model.dropout=0,0.5"]
    )
    assert study.space.dimensions == (
        Continuous("optimizer.lr", 0.001, 0.1, "log"),
        Categorical("trainer.max_epochs", ("3", "4")),
        Categorical("model.dropout", ("0", "0.5")),
    )
    assert study.config.data.batch_size == 16


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_multirun_takes_the_command_lines_sweeps_alone(flag: str) -> None:
    study = read_study([flag, "optimizer.lr=interval(0.001,0.1)"])
    assert study.space.names == ("optimizer.lr",)


def test_a_trial_is_the_fixed_words_and_its_values() -> None:
    study = read_study(["-m", "experiment=digits", "optimizer.lr=0.1,0.2"])
    assert study.trial({"optimizer.lr": "0.2"}) == ["experiment=digits", "optimizer.lr=0.2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["optimizer.lr=0.1,0.2"],
            "optimizer.lr=0.1,0.2: this is a list of values to try. Type -m to tune over them, or one value.",
        ),
        (["-m", "optimizer.lr=0.1"], "there is nothing to tune: every setting has one value."),
        (
            ["-m", "optimizer.lr=0,1"],
            "optimizer.lr=0, which the study may try, is refused: optimizer.lr=0.0: must be greater than 0.",
        ),
        (["-m", "optimizer.lr=a,b"], "optimizer.lr=a, which the study may try, is refused: "),
        (
            ["hpo=true", "finetune=gradual", "finetune.epochs_per_stage=2"],
            "trainer.max_epochs=2, which the study may try, is refused: finetune=gradual",
        ),
        (
            ["-m", "model=resnet18,resnet99"],
            "model=resnet99, which the study may try, is refused: model=resnet99: there is no such model.",
        ),
        (["hpo=big"], "hpo=big: there is no such hpo."),
    ],
)
def test_refusals_name_what_to_mend(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read_study(words)
    assert str(refusal.value).startswith(message)

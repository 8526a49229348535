from __future__ import annotations

import pytest

from sagelight.config.grammar import parse_override
from sagelight.config.groups import GROUPS
from sagelight.errors import ConfigError
from sagelight.tuning.space import (
    Categorical,
    Continuous,
    Dimension,
    Integer,
    Space,
    read_space,
    sweep_words,
)


def one(text: str) -> Dimension:
    (dimension,) = read_space([parse_override(text)]).dimensions
    return dimension


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("optimizer.lr=interval(0.001,0.1)", Continuous("optimizer.lr", 0.001, 0.1)),
        ("optimizer.lr=tag(linear,interval(0.001,0.1))", Continuous("optimizer.lr", 0.001, 0.1)),
        ("optimizer.lr=tag(log,interval(1e-4,1e-1))", Continuous("optimizer.lr", 1e-4, 0.1, "log")),
        (
            "finetune.decay=tag(reverse_log,interval(.5,.999))",
            Continuous("finetune.decay", 0.5, 0.999, "reverse_log"),
        ),
        ("trainer.max_epochs=int(interval(2,10))", Integer("trainer.max_epochs", 2, 10)),
        (
            "data.batch_size=tag(log,int(interval(1,1000)))",
            Integer("data.batch_size", 1, 1000, "log"),
        ),
        (
            "data.batch_size=int(tag(log,interval(1,1000)))",
            Integer("data.batch_size", 1, 1000, "log"),
        ),
        # The stop of a range is not part of it; the maximum of a tuner is.
        ("trainer.max_epochs=range(2,11)", Integer("trainer.max_epochs", 2, 10)),
        ("trainer.max_epochs=tag(log,range(1,10))", Integer("trainer.max_epochs", 1, 9, "log")),
        ("trainer.max_epochs=range(10,1,step=-1)", Integer("trainer.max_epochs", 2, 10)),
        ("trainer.max_epochs=sort(range(10,1,step=-1))", Integer("trainer.max_epochs", 2, 10)),
        ("trainer.max_epochs=shuffle(range(2,11))", Integer("trainer.max_epochs", 2, 10)),
        (
            "trainer.max_epochs=range(2,11,step=2)",
            Categorical("trainer.max_epochs", ("2", "4", "6", "8", "10")),
        ),
        ("trainer.max_epochs=range(3,4)", Categorical("trainer.max_epochs", ("3",))),
        ("data.batch_size=sort(tag(log,range(8,65)))", Integer("data.batch_size", 8, 64, "log")),
        ("model.dropout=range(0.0,2.0)", Categorical("model.dropout", ("0.0", "1.0"))),
        (
            "model.dropout=tag(reverse_log,interval(0,.5))",
            Continuous("model.dropout", 0, 0.5, "reverse_log"),
        ),
        (
            "debugger.parameters={a:{b:1.5}},{a:{b:2}}",
            Categorical("debugger.parameters", ("{a:{b:1.5}}", "{a:{b:2}}")),
        ),
        # What Hydra's own sweeper would try, float dust and all.
        (
            "model.dropout=range(0.1,1.0,step=0.3)",
            Categorical("model.dropout", ("0.1", "0.4", "0.7", "1.0")),
        ),
        ("data.batch_size=32,64,128", Categorical("data.batch_size", ("32", "64", "128"))),
        ("data.batch_size=choice(32,64)", Categorical("data.batch_size", ("32", "64"))),
        ("data.batch_size=shuffle(64,32)", Categorical("data.batch_size", ("64", "32"))),
        ("data.batch_size=sort(64,32)", Categorical("data.batch_size", ("32", "64"))),
        ("data.batch_size=int(choice(1.5,2))", Categorical("data.batch_size", ("1", "2"))),
        (
            "trainer.deterministic=bool(choice(0,1))",
            Categorical("trainer.deterministic", ("false", "true")),
        ),
        ("model=resnet18,resnet50", Categorical("model", ("resnet18", "resnet50"))),
        ("model=glob(resnet*)", Categorical("model", ("resnet18", "resnet50"))),
        ("model=glob(resnet*,exclude=*50)", Categorical("model", ("resnet18",))),
        (
            "trainer.limit_train_batches=null,4",
            Categorical("trainer.limit_train_batches", ("null", "4")),
        ),
        ("model.weights='a,b',none", Categorical("model.weights", ("'a,b'", "none"))),
        ('model.weights="a,b",none', Categorical("model.weights", ("'a,b'", "none"))),
        ("+optimizer.lr=0.1,0.2", Categorical("optimizer.lr", ("0.1", "0.2"))),
        ("seed=0,1,2", Categorical("seed", ("0", "1", "2"))),
    ],
)
def test_every_form_of_the_grammar_is_translated(text: str, meant: Dimension) -> None:
    assert one(text) == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "trainer.max_epochs=interval(2,10)",
            "this setting takes whole numbers, and interval() gives fractions. Type trainer.max_epochs=range(2,11).",
        ),
        ("optimizer.lr=interval(0.1,0.001)", "the lower end comes first, and the ends differ."),
        ("optimizer.lr=interval(0.1,inf)", "both ends must be finite."),
        ("optimizer.lr=tag(log,interval(0,0.1))", "a logarithmic scale starts above 0."),
        (
            "finetune.decay=tag(reverse_log,interval(.5,1))",
            "a reversed logarithmic scale lies within 0 and 1, without 1.",
        ),
        (
            "optimizer.lr=tag(fast,interval(1e-4,1e-1))",
            "the tags that mean something are log and reverse_log, one of them.",
        ),
        (
            "optimizer.lr=tag(log,reverse_log,interval(1e-4,1e-1))",
            "the tags that mean something are log and reverse_log, one of them.",
        ),
        ("data.batch_size=tag(log,choice(1,2))", "a list of values has no scale; remove the tag."),
        (
            "trainer.max_epochs=tag(log,range(1,100,step=10))",
            "only a range by steps of one has a scale; remove the tag or the step.",
        ),
        ("trainer.max_epochs=range(3,3)", "the range is empty; its end is not part of it."),
        ("trainer.max_epochs=range(3,9,step=0)", "a range with step 0 never ends."),
        ("data.batch_size=choice(8,8)", "8 stands there twice."),
        ("optimizer.lr=0.1,nan", "every value must be finite."),
        ("model=glob(nothing*)", "no choice matches."),
        ("optimizer=interval(1,2)", "choose among adamw, sgd."),
        ("optimizer=range(1,2)", "choose among adamw, sgd."),
        ("optimizer.lr=glob(*)", f"glob() works for the groups only: {', '.join(GROUPS)}."),
        ("optimizer.lrr=1,2", "there is no such setting."),
        ("model@other=resnet18,resnet50", "type it without the package: model=...."),
        ("hydra.verbose=true,false", "Hydra's own settings cannot be tuned."),
        ("run_dir=a,b", "this does not change what a network learns, so it is not tuned."),
        (
            "cloud.spot=true,false",
            "this does not change what a network learns, so it is not tuned.",
        ),
        ("hpo.max_jobs=1,2", "this does not change what a network learns, so it is not tuned."),
        ("data.root=a,b", "this does not change what a network learns, so it is not tuned."),
        (
            "experiment=resnet18,resnet50",
            "this does not change what a network learns, so it is not tuned.",
        ),
        ("data=folder,shards", "this does not change what a network learns, so it is not tuned."),
        (
            "trainer.max_epochs=interval(1.5,9.5)",
            "this setting takes whole numbers, and interval() gives fractions. Type trainer.max_epochs=range(2,10).",
        ),
        ("optimizer.lr=interval(-inf,0.1)", "both ends must be finite."),
        ("optimizer.lr=interval(0.1,0.1)", "the lower end comes first, and the ends differ."),
        (
            "finetune.decay=tag(reverse_log,interval(-.1,.9))",
            "a reversed logarithmic scale lies within 0 and 1, without 1.",
        ),
        ("debugger.rules=[a,[nan]],[b]", "every value must be finite."),
        ("debugger.parameters={a:1},{a:{b:inf}}", "every value must be finite."),
    ],
)
def test_what_no_tuner_can_be_given_is_refused_by_name(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        one(text)
    assert str(refusal.value) == f"{text} cannot be tuned: {why}"


def test_a_later_sweep_replaces_an_earlier_one_and_a_single_value_ends_it() -> None:
    sweeps = [
        parse_override(text)
        for text in ("optimizer.lr=0.1,0.2", "data.batch_size=8,16", "optimizer.lr=0.3,0.4")
    ]
    assert read_space(sweeps) == Space(
        (
            Categorical("data.batch_size", ("8", "16")),
            Categorical("optimizer.lr", ("0.3", "0.4")),
        )
    )
    assert read_space(sweeps, fixed=["optimizer.lr"]).names == ("data.batch_size",)


def test_a_group_and_a_setting_in_it_are_not_both_tuned() -> None:
    sweeps = [parse_override("model=resnet18,resnet50"), parse_override("model.dropout=0,0.5")]
    with pytest.raises(ConfigError) as refusal:
        read_space(sweeps)
    assert str(refusal.value) == (
        "model.dropout and model cannot both be tuned: each choice of model may set model.dropout. "
        "Keep one of them."
    )


def test_samples_reach_every_bound_and_choice() -> None:
    space = Space(
        (
            Continuous("optimizer.lr", 1e-5, 0.1, "log"),
            Integer("trainer.max_epochs", 2, 10),
            Categorical("model", ("resnet18", "resnet50")),
        )
    )
    assert space.samples() == [
        "optimizer.lr=1e-05",
        "optimizer.lr=0.1",
        "trainer.max_epochs=2",
        "trainer.max_epochs=10",
        "model=resnet18",
        "model=resnet50",
    ]


def test_a_space_is_written_as_it_was_read() -> None:
    words = [
        "optimizer.lr=tag(log,interval(1e-05,0.1))",
        "model.dropout=interval(0.0,0.5)",
        "trainer.max_epochs=range(2,11)",
        "data.batch_size=tag(log,range(8,65))",
        "model.weights='a,b','none',null",
        "seed=choice(3)",
    ]
    space = read_space(map(parse_override, words))
    assert sweep_words(space) == words
    assert space.names == tuple(word.split("=")[0] for word in words)


def test_a_whole_range_holds_both_its_ends() -> None:
    assert list(Integer("trainer.max_epochs", 2, 4).values()) == [2, 3, 4]

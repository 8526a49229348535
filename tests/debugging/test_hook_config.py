from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sagelight.debugging.hook_config import (
    EARLY,
    HookConfig,
    When,
    default_hook_config,
    read_hook_config,
)
from sagelight.debugging.settings import DebuggerSettings
from sagelight.errors import ConfigError


def written(content: Any) -> Path:
    path = Path("debughookconfig.json")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(
    hook: dict[str, str] | None = None, *collections: dict[str, Any], **more: Any
) -> HookConfig:
    content = {"HookParameters": hook, "CollectionConfigurations": list(collections), **more}
    return read_hook_config(written(content))


def collection(name: str, **parameters: str) -> dict[str, Any]:
    return {"CollectionName": name, "CollectionParameters": parameters or None}


def steps(config: HookConfig, name: str, mode: str = "TRAIN", count: int = 8) -> list[int]:
    return [n for n in range(count) if any(each.name == name for each in config.due(mode, n))]


def test_a_file_as_sagemaker_writes_it_saves_what_smdebug_saves() -> None:
    """The steps are those that the real hook of smdebug 1.0.34 kept of eight, given the same."""
    config = read(
        {"train.save_interval": "3", "eval.save_interval": "1", "include_workers": "one"},
        collection("gradients", save_interval="2"),
        collection("losses", save_interval="1"),
        collection("relu_input", include_regex=".*relu_input", **{"train.save_interval": "5"}),
        collection("weights"),
        S3OutputPath="s3://bucket/prefix",
        LocalPath="/opt/ml/output/tensors",
    )
    assert config.folder == Path("/opt/ml/output/tensors")
    assert config.workers == "one"
    assert steps(config, "gradients") == [0, 2, 4, 6]
    assert steps(config, "losses") == list(range(8))
    assert steps(config, "weights") == [0, 3, 6]
    assert steps(config, "weights", "EVAL") == list(range(8))
    assert steps(config, "relu_input") == [0, 5]
    assert not any(each.reductions for each in config.collections)
    [relu] = [each for each in config.collections if each.name == "relu_input"]
    assert relu.takes("backbone.layer1.0.relu_input_1")
    assert not relu.takes("backbone.layer1.0.relu_output_0")


def test_what_a_collection_says_of_a_mode_is_before_what_it_says_of_all() -> None:
    own = {"save_interval": "4", "train.save_interval": "2"}
    config = read({"train.save_interval": "7", "save_interval": "5"}, collection("losses", **own))
    assert steps(config, "losses") == [0, 2, 4, 6]
    assert steps(config, "losses", "EVAL") == [0, 4]
    assert steps(config, "losses", "PREDICT") == [0, 4]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"start_step": "3"}, [4, 6]),
        ({"end_step": "4"}, [0, 2]),
        ({"start_step": "2", "end_step": "6"}, [2, 4]),
        ({"save_steps": "1, 7", "start_step": "6"}, [1, 6, 7]),
        ({"train.end_step": "2"}, [0]),
        ({"eval.end_step": "2"}, [0, 2, 4, 6]),
    ],
)
def test_an_interval_counts_between_its_start_and_its_end(
    parameters: dict[str, str], expected: list[int]
) -> None:
    own = {"save_interval": "2", **parameters}
    assert steps(read(None, collection("weights", **own)), "weights") == expected
    # What the hook says holds for collections that say nothing.
    assert steps(read(own, collection("weights")), "weights") == expected


def test_nothing_said_is_smdebugs_default() -> None:
    for content in ({}, {"HookParameters": None, "CollectionConfigurations": None}):
        config = read_hook_config(written(content))
        assert [each.name for each in config.collections] == ["losses"]
        assert steps(config, "losses", count=1001) == [0, 500, 1000]
        assert (config.folder, config.workers) == (None, "one")


def test_reductions_have_smdebugs_names() -> None:
    config = read(
        {"reductions": "min, abs_variance,l2_norm,abs_l2_norm"},
        collection("weights"),
        collection("gradients", reductions="mean"),
    )
    kept = {each.name: each.reductions for each in config.collections}
    assert kept["weights"] == ("min", "abs_variance", "l2", "abs_l2")
    assert kept["gradients"] == ("mean",)
    assert kept["losses"] == ()


def test_everything_and_what_a_regular_expression_names_can_be_saved() -> None:
    config = read(
        {"save_all": "True", "include_regex": "bn1, conv1$", "include_workers": "all"},
        collection("mine", include_regex="head"),
    )
    taken = {
        each.name: [n for n in ("bn1.weight", "conv1", "head.2") if each.takes(n)]
        for each in config.collections
    }
    assert taken["all"] == ["bn1.weight", "conv1", "head.2"]
    assert taken["default"] == ["bn1.weight", "conv1"]
    assert taken["mine"] == ["head.2"]
    assert config.workers == "all"
    assert [each.name for each in read({"save_all": "false"}).collections] == ["losses"]


EXPRESSIONS = (
    "__import__('os').system('touch hacked')",
    "[__import__('pathlib').Path('hacked').touch()]",
    "open('hacked', 'w')",
)


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize(
    "key",
    ["save_interval", "save_steps", "start_step", "end_step", "train.save_interval",
     "eval.save_steps", "predict.start_step", "global.end_step", "reductions"],
)  # fmt: skip
def test_an_expression_is_refused_and_never_evaluated(key: str, expression: str) -> None:
    for content in (({key: expression},), (None, collection("weights", **{key: expression}))):
        with pytest.raises(ConfigError, match=r"^debugger\.hook_config=debughookconfig\.json: "):
            read(*content)
    assert not Path("hacked").exists()


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("key", ["save_all", "include_workers"])
def test_an_expression_for_a_choice_is_refused(key: str, expression: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=.* is neither"):
        read({key: expression})
    assert not Path("hacked").exists()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_where_any_text_may_be_stays_text(expression: str) -> None:
    config = read(
        {"export_tensorboard": expression, "tensorboard_dir": expression, "made_up": expression},
        collection(expression, save_histogram=expression),
        LocalPath=expression,
        S3OutputPath=expression,
    )
    assert config.collections[0].name == expression
    assert config.folder == Path(expression)
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{half", "cannot be read: Expecting property name"),
        ("", "cannot be read: Expecting value"),
        ("[" * 100_000, "cannot be read: "),
        ("[]", "the file is no mapping"),
        ({"HookParameters": []}, "HookParameters is no mapping"),
        ({"CollectionConfigurations": {}}, "CollectionConfigurations is no list"),
        ({"CollectionConfigurations": ["weights"]}, "a collection is no mapping"),
        ({"CollectionConfigurations": [{}]}, "a collection has no CollectionName"),
        ({"CollectionConfigurations": [{"CollectionName": 3}]}, "a collection has no Coll"),
        ({"HookParameters": {"save_interval": "0"}}, "save_interval=0 is no whole number from 1"),
        ({"HookParameters": {"save_interval": "-5"}}, "save_interval=-5 is no whole number"),
        ({"HookParameters": {"save_interval": "2.5"}}, "save_interval=2.5 is no whole number"),
        ({"HookParameters": {"save_interval": None}}, "save_interval=None is no whole number"),
        ({"HookParameters": {"save_interval": True}}, "save_interval=True is no whole number"),
        ({"HookParameters": {"save_interval": "9" * 5000}}, "save_interval=9999"),
        ({"HookParameters": {"save_steps": "1,two"}}, "save_steps=two is no whole number"),
        ({"HookParameters": {"train.end_step": "-1"}}, "train.end_step=-1 is no whole number"),
        (
            {"HookParameters": {"reductions": "min,varianc"}},
            "there is no reduction varianc. Did you mean variance",
        ),
        ({"HookParameters": {"include_regex": "a,(b"}}, "include_regex (b is no regular expr"),
        ({"HookParameters": {"save_all": "yes"}}, "save_all=yes is neither true nor false"),
        ({"HookParameters": {"include_workers": "two"}}, "include_workers=two is neither one nor"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_what_is_wrong(content: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_hook_config(written(content))
    said = str(refused.value)
    assert said.startswith("debugger.hook_config=debughookconfig.json")
    assert message in said


def test_a_file_that_is_missing_or_no_text_is_refused() -> None:
    Path("bytes.json").write_bytes(b"\xff\xfe{}")
    for path in (Path("none.json"), Path(), Path("bytes.json")):
        with pytest.raises(
            ConfigError, match=r"cannot be read: .* Type debugger\.hook_config=null"
        ):
            read_hook_config(path)


def test_the_default_looks_early_and_then_seldom_and_at_losses_often() -> None:
    config = default_hook_config(DebuggerSettings(save_interval=200), batches=1000)
    assert steps(config, "weights", count=1000) == sorted({*EARLY, 200, 400, 600, 800})
    assert steps(config, "losses", count=1000) == sorted({*EARLY, *range(0, 1000, 20)})
    assert steps(config, "losses", "EVAL", 20) == list(range(20))
    few = default_hook_config(DebuggerSettings(), batches=20)
    assert steps(few, "losses", count=1000) == list(range(1000))


def test_whole_weights_are_kept_when_asked_for() -> None:
    kept = {
        raw: {
            each.name: each.reductions
            for each in default_hook_config(DebuggerSettings(raw=raw), 10).collections
        }
        for raw in (False, True)
    }
    for name in ("weights", "biases", "gradients", "updates"):
        assert kept[False][name]
        assert not kept[True][name]
    # Activations would take more than all else together, and nobody could say how much before.
    assert kept[True]["relu_input"] == kept[False]["relu_input"] == ("variance",)


def test_a_schedule_holds_at_its_bounds() -> None:
    when = When(10, frozenset({3}), start=20, end=40)
    assert [n for n in range(100) if when.holds(n)] == [3, 20, 30]

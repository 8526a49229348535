from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from sagelight.config.compose import compose, compose_with_sweep, load, parse_value
from sagelight.config.groups import GROUPS, conf_dir, group_choices
from sagelight.config.save import config_digest, save, saved_digest
from sagelight.config.schema import Config
from sagelight.errors import ConfigError

EVERY_CHOICE = [f"{group}={choice}" for group in GROUPS for choice in group_choices(group)]
LISTS = "`python launch/local.py train --help` lists every setting."
MEANT = "${KEY} stands for the value of another setting; put a backslash before the $ that is meant as such."


def test_default_is_the_digits_that_need_no_download() -> None:
    config = compose([])
    assert (config.name, config.data.root, config.model.weights) == (
        "digits",
        "data/digits",
        "none",
    )


@pytest.mark.parametrize("choice", EVERY_CHOICE)
def test_every_shipped_choice_composes(choice: str) -> None:
    compose([choice])


def test_the_default_choices_are_the_defaults_that_help_shows() -> None:
    root = yaml.safe_load((conf_dir() / "train.yaml").read_text())["defaults"]
    chosen = {
        group: name for entry in root if isinstance(entry, dict) for group, name in entry.items()
    }
    fields = {field.name: field for field in dataclasses.fields(Config)}
    for group, name in chosen.items():
        if group == "experiment":
            continue
        defaults = dataclasses.asdict(fields[group].default_factory())  # type: ignore[misc]
        choice = yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text())
        assert choice == {key: defaults[key] for key in choice}, group


def test_conf_holds_no_folder_that_is_not_a_group() -> None:
    assert {path.name for path in conf_dir().iterdir() if path.is_dir()} == set(GROUPS)


def test_the_promised_experiments_ship() -> None:
    promised = "digits smoke resnet18 resnet50 squeezenet mobilenet_v3 efficientnet_v2_s convnext_tiny vit_b_16"
    assert set(promised.split()) == set(group_choices("experiment"))


def test_the_command_line_wins_over_the_experiment() -> None:
    config = compose(["experiment=squeezenet", "optimizer.lr=0.5", "finetune=gradual"])
    assert config.optimizer.lr == 0.5
    assert config.finetune.name == "gradual"
    assert config.finetune.backbone_lr_scale == 0.03


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("optimizer.lrr=1", f"unknown setting optimizer.lrr. Did you mean optimizer.lr, optimizer or optimizer.name? {LISTS}"),
        ("+optimizer.lrr=1", f"unknown setting optimizer.lrr. Did you mean optimizer.lr, optimizer or optimizer.name? {LISTS}"),
        ("++lr=3", f"unknown setting lr. Did you mean optimizer.lr? {LISTS}"),
        ("nam=x", f"unknown setting nam. Did you mean name or data.name? {LISTS}"),
        ("x.head.momentum=1", f"unknown setting x.head.momentum. Did you mean optimizer.momentum? {LISTS}"),
        ("callbacks.decay=1", f"unknown setting callbacks.decay. Did you mean finetune.decay? {LISTS}"),
        ("a.cache=1", f"unknown setting a.cache. Did you mean data.cache or features.cache? {LISTS}"),
        ("data.root='${nope}'", f"data.root: Interpolation key 'nope' not found. {MEANT}"),
        ("++optimizer.lr=abc", "optimizer.lr=abc: must be a number. The default is optimizer.lr=0.003."),
        ("+optimizer.lr=abc", "Could not append to config. An item is already at 'optimizer.lr'."),
        ("optimizer=x.yml", "optimizer=x.yml: there is no such optimizer. Choose one of adamw, sgd."),
        ("optimizer.lr=abc", "optimizer.lr=abc: must be a number. The default is optimizer.lr=0.003."),
        ("optimizer.lr=-1", "optimizer.lr=-1.0: must be greater than 0. The default is 0.003."),
        ("optimizer.lr=nan", "optimizer.lr=nan: must be greater than 0. The default is 0.003."),
        ("optimizer.lr=inf", "optimizer.lr=inf: must be a finite number. The default is 0.003."),
        ("trainer.max_epochs=0", "trainer.max_epochs=0: must be at least 1. The default is 10."),
        ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5: must be a whole number. The default is trainer.max_epochs=10."),
        ("debugger.rules={a: 1}", "debugger.rules={a: 1}: must be a list, as [one,two]. The default is debugger.rules=[]."),
        ("debugger.parameters=5", "debugger.parameters=5: must be a mapping, as {name: value}. The default is debugger.parameters={}."),
        ("trainer.limit_train_batches=x", "trainer.limit_train_batches=x: must be a whole number or null. The default is trainer.limit_train_batches=null."),
        ("trainer.deterministic=maybe", "trainer.deterministic=maybe: must be true or false. The default is trainer.deterministic=true."),
        ("data.num_workers=many", "data.num_workers=many: must be a whole number or auto. The default is auto."),
        ("data.num_workers=1.5", "data.num_workers=1.5: must be a whole number or auto. The default is data.num_workers=auto."),
        ("check=loose", "check=loose: must be one of strict, warn, off. The default is strict."),
        ("optimizer=adam", "optimizer=adam: there is no such optimizer. Did you mean adamw? Choose one of adamw, sgd."),
        ("optimizer={lr: 3}", "optimizer={lr: 3}: set the entries one by one: optimizer.KEY=VALUE."),
        ("~optimizer", "~optimizer: settings cannot be removed, only set. Type optimizer=VALUE."),
        ("optimizer.lr=0.1,0.2", "optimizer.lr=0.1,0.2: this is a list of values to try, and this command trains one. Type one value, or quote a text that holds a comma."),
        ("epochs", "epochs: not understood. Type settings as key=value."),
        ("name=a'b", "name=a'b: not understood. Quote values with special signs: \"key='a b'\"."),
        ("experiment=no.yaml", "experiment=no.yaml: no such file."),
        ("data.resize_size=8", "data.resize_size=8 is below data.image_size=32: the crop would reach outside the photo. Type data.resize_size=32 or data.resize_size=auto."),
        ("hpo.direction=minimize", "hpo.direction=minimize would keep the worst epoch by hpo.metric=val/accuracy. Type hpo.direction=maximize."),
    ],
)  # fmt: skip
def test_refusals_are_one_line_that_says_what_to_type(typed: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose([typed])
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("typed", "part"),
    [
        (["data.sampler=balanced", "loss=balanced"], "correct the same imbalance twice"),
        (["finetune=gradual", "trainer.max_epochs=1"], "never unfreezes anything"),
        (["data.validation_fraction=0.5", "data.test_fraction=0.4"], "too little to train on"),
    ],
)
def test_impossible_pairs_are_refused(typed: list[str], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        compose(typed)


def test_config_file_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    save(compose([]), path)
    path.write_text(path.read_text() + "extra: 1\n")
    with pytest.raises(ConfigError, match=r"^unknown setting extra\."):
        load(path, [])


def test_config_file_repeats_and_takes_single_settings(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    config = compose(["experiment=squeezenet", "data.root=photos"])
    config.run_dir = "runs/old"
    save(config, path)
    again = load(path, ["seed=3"])
    assert (again.seed, again.run_dir, again.optimizer.lr) == (3, "auto", 0.01)
    assert load(path, ["run_dir=here"]).run_dir == "here"
    quoted = load(path, ["++run_dir='a=b c'", "resume=off"])
    assert (quoted.run_dir, quoted.resume) == ("a=b c", "off")
    with pytest.raises(ConfigError, match=r"only single settings can be changed"):
        load(path, ["optimizer=sgd"])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[1, 2]", "it holds no settings."),
        ("{", "while parsing a flow node"),
        ("a: ${b", "no viable alternative at input '${b'"),
    ],
)
def test_config_file_that_is_none_is_refused(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as refusal:
        load(path, [])
    assert str(refusal.value).startswith(f"--config-from {path} is no configuration: {why}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("optimizer: {lr: abc}", "optimizer.lr: must be a number. The default is optimizer.lr=0.003."),
        ("data: {root: '${nope}'}", f"data.root: Interpolation key 'nope' not found. {MEANT}"),
        ("data: {rot: x}", f"unknown setting data.rot. Did you mean data.root, data.prefetch or data.sampler? {LISTS}"),
    ],
)  # fmt: skip
def test_config_file_with_a_setting_that_means_nothing_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as refusal:
        load(path, [])
    assert str(refusal.value) == message


def test_config_file_in_which_a_setting_has_no_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: [5]")
    with pytest.raises(ConfigError) as refusal:
        load(path, ["data.root=photos"])
    assert str(refusal.value).startswith(
        f"--config-from {path} is no configuration: data.root cannot be set in it ("
    )


def test_a_value_of_another_setting_is_read_where_it_means_something(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: {root: 'photos/${seed}'}\nseed: 5\nname: é\n", encoding="utf-8")
    config = load(path, [])
    assert (config.data.root, config.name) == ("photos/5", "é")


def test_what_tuning_varies_comes_with_the_configuration() -> None:
    config, sweep = compose_with_sweep(["hpo=default"])
    assert config.hpo.metric == "val/accuracy"
    assert sweep == {
        "optimizer.lr": "tag(log,interval(0.001,0.1))",
        "data.batch_size": "choice(32,64,128,256,512)",
        "trainer.max_epochs": "range(2,11)",
    }
    assert compose_with_sweep(["hpo=none"])[1] == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [("a.b=1e-3", ("a.b", 0.001)), ("a='1'", ("a", "1")), ("a=[x,null]", ("a", ["x", None]))],
)
def test_one_value_is_read_by_the_grammar(text: str, found: tuple[str, object]) -> None:
    assert parse_value(text) == found


def test_missing_config_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "no.yaml", [])


@pytest.mark.parametrize("ending", ["yaml", "yml"])
def test_experiment_may_be_a_path(tmp_path: Path, ending: str) -> None:
    best = tmp_path / f"best.{ending}"
    best.write_text(
        "# @package _global_\ndefaults:\n  - override /model: resnet50\noptimizer:\n  lr: 0.25\n"
    )
    config = compose([f"experiment={best}", "data.root=photos"])
    assert (config.name, config.model.backbone, config.optimizer.lr) == ("best", "resnet50", 0.25)


def test_digest_tells_configurations_apart_but_not_places(tmp_path: Path) -> None:
    one, other = compose(["run_dir=a"]), compose(["run_dir=b", "resume=off"])
    assert config_digest(one) == config_digest(other)
    here, there = (
        compose([f"data.root={place}/photos", f"model.weights={place}/resnet18.pth"])
        for place in ("here", "there")
    )
    assert config_digest(here) == config_digest(there) != config_digest(one)
    assert config_digest(one) != config_digest(compose(["seed=1"]))
    save(one, tmp_path / "config.yaml")
    assert saved_digest(tmp_path) == config_digest(one)
    assert saved_digest(tmp_path / "none") is None


def test_a_mapping_takes_entries_one_by_one_and_whole() -> None:
    typed = ["debugger.parameters.Overfit.patience=3", "debugger.actions={ExplodingTensor: stop}"]
    debugger = compose(typed).debugger
    assert debugger.parameters == {"Overfit": {"patience": 3}}
    assert debugger.actions == {"ExplodingTensor": "stop"}

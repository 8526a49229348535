from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sagelight.config.compose import compose
from sagelight.config.resolve import Machine, guard, resolve
from sagelight.config.save import config_digest
from sagelight.config.schema import Config
from sagelight.config.verbs import parse_settings
from sagelight.data.check import CheckSettings
from sagelight.errors import ConfigError
from sagelight.processes import Processes

LAPTOP = Machine(cores=4, accelerator="cpu", fast_bf16=False, reason="CPU without AMX")
SERVER = Machine(cores=64, accelerator="cuda", fast_bf16=True, reason="Ampere or later")


def test_every_auto_is_resolved_and_told() -> None:
    config = compose(["experiment=resnet18", "data.root=photos"])
    # Those of the cloud and of studies are theirs to resolve; features of a full finetune and one process are not worth
    # a word.
    before = {
        name
        for name, value in _flat(asdict(config)).items()
        if value == "auto" and not name.startswith("cloud.")
    } - {"resume", "hpo.backend", "features.cache", "trainer.strategy", "trainer.devices"}
    told = {choice.name for choice in resolve(config, LAPTOP, 1000)}
    assert told == before
    config.resume = "off"
    guard(config)


def test_a_leaking_auto_is_our_fault() -> None:
    with pytest.raises(RuntimeError, match="unresolved auto in run_dir"):
        guard(compose(["resume=off", "name=x"]))


@pytest.mark.parametrize(
    ("words", "cache", "told"),
    [
        (["finetune=full"], "off", None),
        (["finetune=head", "augment=none"], "on", "it runs once"),
        (["finetune=head", "augment=light"], "off", "augment=light varies each photo"),
        (["finetune=head", "augment=light", "features.views=2"], "on", "it runs once"),
        (["finetune=head", "augment=none", "features.cache=off"], "off", None),
    ],
)
def test_features_are_cached_where_nothing_else_changes(
    words: list[str], cache: str, told: str | None
) -> None:
    config = compose(["experiment=resnet18", "data.root=photos", *words])
    reasons = {c.name: c.reason for c in resolve(config, LAPTOP, 1000)}
    assert config.features.cache == cache
    assert (told is None) == ("features.cache" not in reasons)
    assert told is None or told in reasons["features.cache"]


@pytest.mark.parametrize(
    ("machine", "photos", "size", "workers"),
    [
        (LAPTOP, 1000, 224, 4),
        (SERVER, 1000, 224, 8),
        (LAPTOP, 100, 224, 0),
        (LAPTOP, 1000, 32, 0),
        (Machine(1, "cpu", False, ""), 1000, 224, 0),
    ],
)
def test_loader_processes(machine: Machine, photos: int, size: int, workers: int) -> None:
    config = compose(["experiment=resnet18", f"data.image_size={size}"])
    resolve(config, machine, photos)
    assert config.data.num_workers == workers


def test_bf16_only_where_the_hardware_gains() -> None:
    slow, fast = compose([]), compose([])
    resolve(slow, LAPTOP, 1000)
    resolve(fast, SERVER, 1000)
    assert (slow.trainer.precision, fast.trainer.precision) == ("32-true", "bf16-mixed")


def test_what_a_person_said_is_kept() -> None:
    config = compose(["data.num_workers=3", "data.resize_size=40", "run_dir=here"])
    resolve(config, LAPTOP, 1000)
    assert (config.data.num_workers, config.data.resize_size, config.run_dir) == (3, 40, "here")


@pytest.mark.parametrize(
    ("words", "processes", "values", "told"),
    [
        ([], Processes(), ("ddp", 1), ""),
        ([], Processes(5, 8, 1, 4), ("ddp", 4), "processes of this machine, of 8"),
        (["trainer=fsdp"], Processes(0, 4, 0, 4), ("fsdp", 4), "processes of this machine, of 4"),
        (["trainer=ddp"], Processes(), ("ddp", 1), "a CPU; trainer.devices=2 starts two"),
        (["trainer.devices=2"], Processes(1, 2, 1, 2), ("ddp", 2), ""),
    ],
)
def test_processes_are_those_that_were_started(
    words: list[str], processes: Processes, values: tuple[str, int], told: str
) -> None:
    config = compose(words)
    reasons = {c.name: c.reason for c in resolve(config, replace(LAPTOP, processes=processes), 9)}
    assert (config.trainer.strategy, config.trainer.devices) == values
    assert reasons.get("trainer.devices", "") == told
    assert config_digest(config) == config_digest(_alone(config))


def _alone(config: Config) -> Config:
    """The same run by one process."""
    other = deepcopy(config)
    other.trainer.strategy, other.trainer.devices = "ddp", 1
    return other


def test_more_processes_than_were_started_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer.devices=3, and this training has 1 process"):
        resolve(compose(["trainer.devices=3"]), LAPTOP, 1000)


def test_run_dirs_of_one_second_do_not_collide() -> None:
    first = compose([])
    resolve(first, LAPTOP, 1000)
    Path(first.run_dir).mkdir(parents=True)
    second = compose([])
    resolve(second, LAPTOP, 1000)
    assert first.run_dir != second.run_dir


@pytest.mark.parametrize(
    ("typed", "part"),
    [
        ("trainer.accelerator=cuda", "this machine has none that PyTorch can use"),
        ("trainer.precision=16-mixed", "needs a GPU"),
    ],
)
def test_what_the_machine_lacks_is_refused(typed: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        resolve(compose([typed]), LAPTOP, 1000)


def test_other_verbs_take_groups_and_refuse_what_they_do_not_have() -> None:
    settings = parse_settings(CheckSettings, ["data=digits", "data.split_seed=3"], "check")
    assert (settings.data.root, settings.data.split_seed) == ("data/digits", 3)
    with pytest.raises(
        ConfigError, match=r"^check has no setting data.rot. Did you mean data.root"
    ):
        parse_settings(CheckSettings, ["data.rot=x"], "check")
    with pytest.raises(
        ConfigError, match=r"^data=digit: there is no such data. Did you mean digits"
    ):
        parse_settings(CheckSettings, ["data=digit"], "check")
    with pytest.raises(ConfigError, match=r"^data.split_seed=x: "):
        parse_settings(CheckSettings, ["data.split_seed=x"], "check")


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from sagelight.config.compose import compose
from sagelight.config.resolve import Loading, Machine, guard, resolve
from sagelight.config.save import config_digest
from sagelight.config.verbs import parse_settings
from sagelight.data.check import CheckSettings
from sagelight.errors import ConfigError

LAPTOP = Machine(cores=4, accelerator="cpu", fast_bf16=False, reason="CPU without AMX")
SERVER = Machine(cores=64, accelerator="cuda", fast_bf16=True, reason="Ampere or later")


def test_every_auto_is_resolved_and_told() -> None:
    config = compose(["experiment=resnet18", "data.root=photos"])
    # Those of the cloud and of studies are theirs to resolve, and features of a full finetune are not worth a word.
    before = {
        name
        for name, value in _flat(asdict(config)).items()
        if value == "auto" and not name.startswith("cloud.")
    } - {"resume", "hpo.backend", "features.cache"}
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
    ("machine", "photos", "milliseconds", "workers", "reason"),
    [
        (LAPTOP, 1000, 1.25, 4, "1.2 ms a photo, 4 cores"),
        (SERVER, 10_000, 1.25, 8, "1.2 ms a photo, 64 cores"),
        (LAPTOP, 100, 1.25, 0, "1.2 ms a photo: an epoch's are loaded in 0.1 s"),
        (LAPTOP, 100, 90.0, 4, "90 ms a photo, 4 cores"),
        (Machine(1, "cpu", False, ""), 1000, 1.25, 0, "one core"),
    ],
)
def test_loader_processes(
    machine: Machine, photos: int, milliseconds: float, workers: int, reason: str
) -> None:
    config = compose(["experiment=resnet18"])
    told = resolve(config, machine, photos, Loading(milliseconds, milliseconds, 0.1))
    assert config.data.num_workers == workers
    assert reason in {choice.reason for choice in told if choice.name == "data.num_workers"}


@pytest.mark.parametrize(
    ("machine", "longest", "prefetch", "pin"), [(LAPTOP, 2.0, 2, "off"), (SERVER, 95.0, 4, "on")]
)
def test_batches_ready_and_pinned(
    machine: Machine, longest: float, prefetch: int, pin: str
) -> None:
    config = compose(["experiment=resnet18"])
    resolve(config, machine, 1000, Loading(1.5, longest, 0.1))
    assert (config.data.prefetch, config.data.pin_memory) == (prefetch, pin)


def test_how_photos_are_loaded_is_no_part_of_what_a_run_is() -> None:
    here, there = (compose(["experiment=resnet18", "data.root=x", "run_dir=y"]) for _ in range(2))
    resolve(here, LAPTOP, 1000, Loading(1.5, 2.0, 0.1))
    resolve(there, LAPTOP, 1000, Loading(0.1, 2.0, 0.1))
    assert here.data.num_workers != there.data.num_workers
    assert config_digest(here) == config_digest(there)


def test_bf16_only_where_the_hardware_gains() -> None:
    slow, fast = compose([]), compose([])
    resolve(slow, LAPTOP, 1000)
    resolve(fast, SERVER, 1000)
    assert (slow.trainer.precision, fast.trainer.precision) == ("32-true", "bf16-mixed")


def test_what_a_person_said_is_kept() -> None:
    config = compose(["data.num_workers=3", "data.resize_size=40", "run_dir=here"])
    resolve(config, LAPTOP, 1000)
    assert (config.data.num_workers, config.data.resize_size, config.run_dir) == (3, 40, "here")


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

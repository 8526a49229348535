from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sagelight.config.compose import compose
from sagelight.config.resolve import Loading, Machine, PhotoSizes, guard, resolve
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
    # Those of the cloud and of studies are theirs to resolve; features of a full finetune, the order of shards where there
    # are none, and one process are not worth a word.
    before = {
        name
        for name, value in _flat(asdict(config)).items()
        if value == "auto" and not name.startswith("cloud.")
    } - {
        "resume",
        "hpo.backend",
        "features.cache",
        "data.shuffle_shards",
        "trainer.strategy",
        "trainer.devices",
    }
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


ORDINARY = PhotoSizes(pixels=400 * 533, resized_bytes=1e9, room_bytes=50e9)
LARGE = PhotoSizes(pixels=12e6, resized_bytes=1e9, room_bytes=50e9)


@pytest.mark.parametrize(
    ("machine", "sizes", "words", "cache", "told"),
    [
        (SERVER, ORDINARY, [], "memmap", "photos of 0.2 megapixels, 1.00 GB resized; training crops"),
        (LAPTOP, ORDINARY, [], "off", "a CPU decodes photos of this size faster than it trains"),
        (SERVER, ORDINARY, ["trainer.accelerator=cpu"], "off", "a CPU decodes"),
        (LAPTOP, LARGE, [], "memmap", "photos of 12.0 megapixels"),
        (SERVER, LARGE, ["trainer.max_epochs=1"], "off", "each photo is decoded about once"),
        (SERVER, LARGE, ["trainer=smoke"], "off", "each photo is decoded about once"),
        (SERVER, LARGE, ["finetune=head", "augment=none"], "off", "each photo is decoded once for its"),
        (SERVER, LARGE, ["finetune=head", "augment=none", "features.cache=off"], "memmap", "photos of"),
        (SERVER, LARGE, ["data.cache_max_gb=0.5"], "off", "1.0 GB are more than data.cache_max_gb=0.5"),
        (SERVER, PhotoSizes(64, 1e9, 50e9), [], "off", "small photos"),
        (SERVER, PhotoSizes(1e6, 26e9, 50e9), [], "off", "26.0 GB are more than half of the free disk"),
        (SERVER, PhotoSizes(1e6, 25e9, 50e9), [], "memmap", "25.00 GB resized"),
        (SERVER, PhotoSizes(1e6, 1e9, 0), [], "off", "data.cache_folder cannot be written"),
        (SERVER, PhotoSizes(), [], "off", "small photos"),
        (LAPTOP, ORDINARY, ["data.cache=memmap"], "memmap", None),
        (SERVER, LARGE, ["data.cache=off"], "off", None),
    ],
)  # fmt: skip
def test_resized_photos_are_kept_where_decoding_would_hold_training_up(
    machine: Machine, sizes: PhotoSizes, words: list[str], cache: str, told: str | None
) -> None:
    config = compose(["experiment=resnet18", "data.root=photos", *words])
    reasons = {c.name: c.reason for c in resolve(config, machine, 1000, sizes=sizes)}
    assert config.data.cache == cache
    assert (told is None) == ("data.cache" not in reasons)
    assert told is None or told in reasons["data.cache"]


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
        ("trainer.compile=true", "needs a GPU: on a CPU it takes minutes and gains nothing"),
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

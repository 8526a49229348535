"""Every `auto`, decided once: downstream code meets values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sagelight.config.check import natural_direction
from sagelight.config.schema import Config
from sagelight.config.setting import AUTO, assign, lookup, walk
from sagelight.errors import ConfigError
from sagelight.features.settings import reason_against
from sagelight.processes import Processes

# Below this, starting loader processes costs more than the decoding that they take over.
SMALL_SIDE = 64
SMALL_SET = 256
MOST_WORKERS = 8


@dataclass(frozen=True)
class Machine:
    """What decides the `auto` values: cores this process may use, accelerator, its fast bf16, and the processes."""

    cores: int
    accelerator: str
    fast_bf16: bool
    reason: str
    processes: Processes = Processes()


@dataclass(frozen=True)
class Choice:
    """One decided `auto`: the setting, its value, and why."""

    name: str
    value: str | int
    reason: str


def resolve(config: Config, machine: Machine, training_photos: int) -> list[Choice]:
    """Replace every `auto` but that of `resume` in place, and tell what was chosen and why.

    Raises:
        ConfigError: an accelerator or precision that this machine does not have.
    """
    choices = [
        *_run_dir(config),
        *_data(config, machine, training_photos),
        *_arithmetic(config, machine),
        *_processes(config, machine),
        *_features(config),
        *_rest(config),
    ]
    for choice in choices:
        assign(config, choice.name, choice.value)
    _refuse_impossible(config, machine)
    return choices


def guard(config: Config) -> None:
    """Prove that no `auto` is left but those that training does not read; another one is our bug."""
    names = (name for name, _ in walk(Config) if not name.startswith("cloud."))
    left = [name for name in names if lookup(config, name) == AUTO]
    if left:
        raise RuntimeError(f"unresolved auto in {', '.join(left)}")


def resolved_resize_size(resize_size: int | str, image_size: int) -> int:
    """`auto` keeps the ratio of torchvision's evaluation recipe, 256 to 224."""
    return round(image_size * 256 / 224) if resize_size == AUTO else int(resize_size)


def _run_dir(config: Config) -> list[Choice]:
    if config.run_dir != AUTO:
        return []
    parent = Path("runs") / config.name
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder, twin = parent / stamp, 1
    while folder.exists():
        twin += 1
        folder = parent / f"{stamp}-{twin}"
    return [Choice("run_dir", folder.as_posix(), "a new folder")]


def _data(config: Config, machine: Machine, photos: int) -> list[Choice]:
    data, choices = config.data, []
    if data.resize_size == AUTO:
        size = resolved_resize_size(AUTO, data.image_size)
        choices.append(Choice("data.resize_size", size, "256:224 of data.image_size"))
    if data.eval_batch_size == AUTO:
        choices.append(Choice("data.eval_batch_size", 2 * data.batch_size, "twice data.batch_size"))
    if data.num_workers == AUTO:
        choices.append(Choice("data.num_workers", *_workers(data.image_size, machine, photos)))
    return choices


def _workers(image_size: int, machine: Machine, photos: int) -> tuple[int, str]:
    if image_size <= SMALL_SIDE:
        return 0, "small photos"
    if photos < SMALL_SET:
        return 0, "few photos"
    if machine.cores < 2:
        return 0, "one core"
    return min(machine.cores, MOST_WORKERS), f"{machine.cores} cores"


def _arithmetic(config: Config, machine: Machine) -> list[Choice]:
    trainer, choices = config.trainer, []
    accelerator = trainer.accelerator
    if accelerator == AUTO:
        accelerator = machine.accelerator
        choices.append(Choice("trainer.accelerator", accelerator, "what this machine has"))
    if trainer.precision == AUTO and config.features.cache != "off" and not reason_against(config):
        # A head costs nothing, and features are kept for runs on other machines.
        choices.append(Choice("trainer.precision", "32-true", "a head on cached features"))
    elif trainer.precision == AUTO:
        fast = machine.fast_bf16 and accelerator == machine.accelerator
        precision = "bf16-mixed" if fast else "32-true"
        choices.append(Choice("trainer.precision", precision, machine.reason))
    return choices


def _processes(config: Config, machine: Machine) -> list[Choice]:
    trainer, here = config.trainer, machine.processes.local_size
    if trainer.devices not in (AUTO, here):
        raise ConfigError(
            f"trainer.devices={trainer.devices}, and this training has {here} process{'es' if here > 1 else ''} here. "
            f"launch/local.py starts them, and so does torchrun --nproc-per-node={trainer.devices}."
        )
    several = machine.processes.size > 1
    # One process is worth a word where more could be meant.
    told = several or trainer.strategy != AUTO
    choices = []
    if trainer.devices == AUTO and told:
        choices.append(Choice("trainer.devices", here, _count_reason(trainer.accelerator, machine)))
    if trainer.strategy == AUTO and told:
        choices.append(Choice("trainer.strategy", "ddp", "each process holds the network whole"))
    if not told:
        trainer.devices, trainer.strategy = here, "ddp"
    return choices


def _count_reason(accelerator: str, machine: Machine) -> str:
    if machine.processes.size > 1:
        return f"processes of this machine, of {machine.processes.size}"
    on_cpu = "cpu" in (accelerator, machine.accelerator)
    return "a CPU; trainer.devices=2 starts two" if on_cpu else "one GPU"


def _features(config: Config) -> list[Choice]:
    if config.features.cache != AUTO:
        return []
    reason = reason_against(config)
    if reason is None:
        return [Choice("features.cache", "on", "the backbone is frozen: it runs once")]
    config.features.cache = "off"
    if config.finetune.name != "head":
        return []
    return [Choice("features.cache", "off", reason)]


def _rest(config: Config) -> list[Choice]:
    choices = []
    if config.hpo.backend == AUTO:
        # Whoever trains is where the study runs.
        config.hpo.backend = "local"
    if config.hpo.direction == AUTO:
        direction = natural_direction(config.hpo.metric)
        choices.append(Choice("hpo.direction", direction, config.hpo.metric))
    if config.logger.mlflow_uri == AUTO:
        choices.append(
            Choice("logger.mlflow_uri", "sqlite:///runs/mlflow.db", "a file beside the runs")
        )
    return choices


def _refuse_impossible(config: Config, machine: Machine) -> None:
    trainer = config.trainer
    if trainer.accelerator not in ("cpu", machine.accelerator):
        raise ConfigError(
            f"trainer.accelerator={trainer.accelerator}: this machine has none that PyTorch can use. "
            "Type trainer.accelerator=cpu."
        )
    if trainer.precision == "16-mixed" and trainer.accelerator == "cpu":
        raise ConfigError(
            "trainer.precision=16-mixed needs a GPU. Type trainer.precision=bf16-mixed or 32-true."
        )

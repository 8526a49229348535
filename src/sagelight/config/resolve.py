"""Every `auto`, decided once: downstream code meets values only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sagelight.config.check import natural_direction
from sagelight.config.schema import Config
from sagelight.config.setting import AUTO, assign, lookup, walk
from sagelight.data.settings import shuffled_shards
from sagelight.errors import ConfigError
from sagelight.features.settings import reason_against
from sagelight.processes import Processes

MOST_WORKERS = 8
# A CPU decodes smaller photos faster than it trains on them.
LARGE_PHOTO = 4_000_000
SHARE_OF_DISK = 0.5
# What varying a photo takes that is resized already, see benchmarks/resized.py; it cannot be timed before it is.
RESIZED_MS = 0.25
# A photo that takes so many times the usual holds up its batch, and with few batches ready, training.
UNEVEN = 4


@dataclass(frozen=True)
class Machine:
    """What decides the `auto` values: cores this process may use, accelerator, its fast bf16, and the processes."""

    cores: int
    accelerator: str
    fast_bf16: bool
    reason: str
    processes: Processes = Processes()


@dataclass(frozen=True)
class Loading:
    """What decides how photos are loaded.

    Attributes:
        usual_ms, longest_ms: for one training photo, the median and the most of those that were timed.
        start_seconds: for one loader process.
    """

    usual_ms: float = 0
    longest_ms: float = 0
    start_seconds: float = 0


@dataclass(frozen=True)
class PhotoSizes:
    """What decides whether photos are worth keeping resized, estimated before any is decoded.

    Attributes:
        pixels: width times height of a photo as it lies there, the mean.
        resized_bytes: of all photos resized, three a pixel.
        room_bytes: free on the disk, and what the cache holds and would remove for them; 0 where nothing can be
            written.
    """

    pixels: float = 0
    resized_bytes: float = 0
    room_bytes: float = 0


NO_LOADING = Loading()
NO_SIZES = PhotoSizes()


@dataclass(frozen=True)
class Choice:
    """One decided `auto`: the setting, its value, and why."""

    name: str
    value: str | int
    reason: str


def resolve(
    config: Config,
    machine: Machine,
    training_photos: int,
    loading: Loading = NO_LOADING,
    sizes: PhotoSizes = NO_SIZES,
) -> list[Choice]:
    """Replace every `auto` but that of `resume` in place, and tell what was chosen and why.

    Raises:
        ConfigError: an accelerator or precision that this machine does not have.
    """
    cache = _cache(config, machine, sizes)
    if "memmap" in (config.data.cache, *(choice.value for choice in cache)):
        loading = replace(loading, usual_ms=RESIZED_MS, longest_ms=RESIZED_MS)
    choices = [
        *_run_dir(config),
        *_data(config),
        *_loading(config, machine, training_photos, loading),
        *_arithmetic(config, machine),
        *_processes(config, machine),
        *_features(config),
        *cache,
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


def _data(config: Config) -> list[Choice]:
    data, choices = config.data, []
    if data.resize_size == AUTO:
        size = resolved_resize_size(AUTO, data.image_size)
        choices.append(Choice("data.resize_size", size, "256:224 of data.image_size"))
    if data.eval_batch_size == AUTO:
        choices.append(Choice("data.eval_batch_size", 2 * data.batch_size, "twice data.batch_size"))
    if data.shuffle_shards == AUTO:
        choices += _shards(config)
    return choices


def _shards(config: Config) -> list[Choice]:
    if config.data.name != "shards":
        config.data.shuffle_shards = 0
        return []
    return [Choice("data.shuffle_shards", *shuffled_shards(config.data))]


def _loading(config: Config, machine: Machine, photos: int, loading: Loading) -> list[Choice]:
    data, choices = config.data, []
    if data.num_workers == AUTO:
        choices.append(Choice("data.num_workers", *_workers(machine, photos, loading)))
    if data.prefetch == AUTO:
        uneven = loading.longest_ms > UNEVEN * loading.usual_ms
        reason = f"the slowest photo takes {loading.longest_ms:.0f} ms" if uneven else "even photos"
        choices.append(Choice("data.prefetch", 4 if uneven else 2, reason))
    if data.pin_memory == AUTO:
        copied = _accelerator(config, machine) == "cuda"
        reason = "copied to a GPU" if copied else "no GPU copies from it"
        choices.append(Choice("data.pin_memory", "on" if copied else "off", reason))
    return choices


def _workers(machine: Machine, photos: int, loading: Loading) -> tuple[int, str]:
    if machine.cores < 2:
        return 0, "one core"
    workers = min(machine.cores, MOST_WORKERS)
    epoch = photos * loading.usual_ms / 1000
    took = f"{loading.usual_ms:.2g} ms a photo"
    # Training and validation each have their own.
    if epoch < 2 * workers * loading.start_seconds:
        return 0, f"{took}: an epoch's are loaded in {epoch:.1f} s"
    # A single process is slower than none: what it gains is lost on the way back.
    return workers, f"{took}, {machine.cores} cores"


def _accelerator(config: Config, machine: Machine) -> str:
    chosen = config.trainer.accelerator
    return machine.accelerator if chosen == AUTO else chosen


def _arithmetic(config: Config, machine: Machine) -> list[Choice]:
    trainer, choices = config.trainer, []
    accelerator = _accelerator(config, machine)
    if trainer.accelerator == AUTO:
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


def _cache(config: Config, machine: Machine, sizes: PhotoSizes) -> list[Choice]:
    if config.data.cache != AUTO:
        return []
    against = _reason_against_cache(config, machine, sizes)
    if against is not None:
        return [Choice("data.cache", "off", against)]
    reason = (
        f"photos of {sizes.pixels / 1e6:.1f} megapixels, {sizes.resized_bytes / 1e9:,.2f} GB resized; training crops "
        "are cut from those"
    )
    return [Choice("data.cache", "memmap", reason)]


def _reason_against_cache(config: Config, machine: Machine, sizes: PhotoSizes) -> str | None:
    trainer, data = config.trainer, config.data
    if data.name == "shards":
        return "`prepare resize=PIXELS` makes the photos of shards smaller"
    if config.features.cache != "off" and not reason_against(config):
        return "each photo is decoded once for its features"
    if trainer.max_epochs < 2 or trainer.limit_train_batches is not None:
        return "each photo is decoded about once"
    if sizes.pixels <= resolved_resize_size(data.resize_size, data.image_size) ** 2:
        return "small photos"
    if _accelerator(config, machine) == "cpu" and sizes.pixels < LARGE_PHOTO:
        return "a CPU decodes photos of this size faster than it trains on them"
    if sizes.resized_bytes > data.cache_max_gb * 1e9:
        return f"{sizes.resized_bytes / 1e9:,.1f} GB are more than data.cache_max_gb={data.cache_max_gb:g}"
    if not sizes.room_bytes:
        return "data.cache_folder cannot be written"
    if sizes.resized_bytes > SHARE_OF_DISK * sizes.room_bytes:
        return f"{sizes.resized_bytes / 1e9:,.1f} GB are more than half of the free disk"
    return None


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
    if trainer.compile and trainer.accelerator == "cpu":
        raise ConfigError(
            "trainer.compile=true needs a GPU: on a CPU it takes minutes and gains nothing. "
            "Type trainer.compile=false."
        )

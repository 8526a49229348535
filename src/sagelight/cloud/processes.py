"""How many processes the machines of a job start, and which of them can train one network together."""

from __future__ import annotations

from collections.abc import Iterator

from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import AUTO
from sagelight.data.settings import PHOTOS_OF_A_PROCESS, least_batch
from sagelight.tuning.space import Categorical
from sagelight.tuning.study import Study


def of_machine(study: Study, gpus: int, one_job: bool) -> int:
    """Processes of one machine that train one network: one per GPU; the container starts them.

    A study inside a job starts those of its trials itself, one where nobody asks for more.
    """
    trainer = study.config.trainer
    if one_job and trainer.devices == trainer.strategy == AUTO:
        return 1
    if one_job and trainer.devices != AUTO:
        return int(trainer.devices)
    return max(gpus, 1)


def started_by_container(cloud: CloudSettings, gpus: int, one_job: bool) -> bool:
    """Whether the container runs torchrun on each machine."""
    return not one_job and (gpus > 1 or cloud.instance_count > 1)


def in_words(study: Study, count: int) -> str:
    """`8 processes, ddp: 4 of each batch's 32 photos`; empty for one process."""
    trainer, batch = study.config.trainer, study.config.data.batch_size
    if count == 1:
        return ""
    strategy = "ddp" if trainer.strategy == AUTO else trainer.strategy
    share = (
        f"{batch // count}" if batch % count == 0 else f"{batch // count} or {batch // count + 1}"
    )
    return f"{count} processes, {strategy}: {share} of each batch's {batch} photos each"


def process_problems(study: Study, gpus: int, one_job: bool) -> Iterator[str]:
    """Processes that the machines of this job do not start, and batches that cannot be divided among them."""
    trainer, cloud = study.config.trainer, study.config.cloud
    own = max(gpus, 1)
    if trainer.devices != AUTO and (
        trainer.devices != own if not one_job else int(trainer.devices) > own
    ):
        yield (
            f"trainer.devices={trainer.devices}, and each {cloud.instance_type} of this job starts {own}, one per GPU. "
            "Type trainer.devices=auto, or another cloud.instance_type"
        )
    processes = of_machine(study, gpus, one_job) * cloud.instance_count
    if trainer.strategy == "fsdp" and processes == 1:
        yield (
            "trainer=fsdp divides a network over processes, and this job has one. "
            "Type trainer=default, a cloud.instance_type with several GPUs, or cloud.instance_count=2"
        )
    least, smallest = least_batch(processes), min(batch_sizes(study))
    if processes > 1 and smallest < least:
        yield (
            f"data.batch_size={smallest} is divided over {processes} processes, one per GPU, and "
            f"each needs {PHOTOS_OF_A_PROCESS} photos. Type data.batch_size={least} or more, or fewer GPUs"
        )


def batch_sizes(study: Study) -> list[int]:
    """The batch sizes that may be tried; of a range its ends."""
    tried = next((d for d in study.space.dimensions if d.name == "data.batch_size"), None)
    if tried is None:
        return [study.config.data.batch_size]
    if isinstance(tried, Categorical):
        return [int(value) for value in tried.values]
    return [int(tried.low), int(tried.high)]

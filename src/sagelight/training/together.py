"""One training in several processes of this machine, started by torchrun's own launcher: what `trainer=ddp` means."""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sagelight.config.schema import Config
from sagelight.config.setting import AUTO
from sagelight.cores import usable_cores
from sagelight.errors import ConfigError, RunError
from sagelight.forking import get_ready
from sagelight.processes import is_member
from sagelight.training.member import ENDINGS, member

T = TypeVar("T")
# Between SIGTERM and SIGKILL, for a process that waits for another one inside a GPU.
GRACE_SECONDS = 15
HERE = "127.0.0.1"


class MemberFault(Exception):
    """A fault of ours in one of the processes, with its traceback."""


def asks_several(config: Config) -> bool:
    """Whether a configuration asks for processes, one or more."""
    return config.trainer.strategy != AUTO or config.trainer.devices not in (AUTO, 1)


def processes_to_start(config: Config) -> int:
    """How many processes a training of this machine is to have; 1 where torchrun has started this one.

    Raises:
        ConfigError: more processes than this machine has GPUs.
    """
    if is_member() or not asks_several(config):
        return 1
    import torch

    trainer, gpus = config.trainer, torch.cuda.device_count()
    if trainer.accelerator == "cpu" or (trainer.accelerator == AUTO and not gpus):
        mps = trainer.accelerator == AUTO and torch.backends.mps.is_available()
        return _of_cpu(config, mps)
    if trainer.devices == AUTO:
        return max(1, gpus)
    if int(trainer.devices) > gpus:
        raise ConfigError(
            f"trainer.devices={trainer.devices}: this machine has {gpus} GPU{'' if gpus == 1 else 's'}, and each process "
            "needs one. Type trainer.devices=auto, or trainer.accelerator=cpu."
        )
    return int(trainer.devices)


def together(count: int, work: Callable[..., T], *args: Any) -> T:
    """Run `work(*args)` in `count` processes that torchrun's launcher starts; gives what it returns in the first one.

    The processes meet at the loopback. Ctrl-C and SIGTERM end all of them, and so does the end of one.

    Args:
        work: found by its name in the other processes, as its arguments are carried there.

    Raises:
        RunError: what one of them was refused for, in its words; or which of them died.
        MemberFault: our own fault in one of them.
        KeyboardInterrupt: on Ctrl-C and SIGTERM, when all have ended.
    """
    # While this process loads the launcher, the one from which the others are forked loads the training.
    get_ready("sagelight.training.fit")
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    with tempfile.TemporaryDirectory(prefix="sagelight-") as scratch, _undisturbed():
        records = Path(scratch) / "records"
        records.mkdir()
        threads = max(1, usable_cores() // count)
        start = elastic_launch(_launch(count, scratch), member)
        try:
            found: T = start(records, dict(os.environ), threads, work, args)[0]
        except SignalException as error:
            raise KeyboardInterrupt from error
        except ChildFailedError as error:
            failure = error.get_first_failure()[1]
            raise _why(records, failure.local_rank, failure.exitcode, count) from None
        return found


def _of_cpu(config: Config, mps: bool) -> int:
    count = 1 if config.trainer.devices == AUTO else int(config.trainer.devices)
    if mps and count > 1:
        raise ConfigError(
            f"trainer.devices={count}: an Apple GPU serves one process. Type trainer.accelerator=cpu, or trainer.devices=1."
        )
    return count


def _launch(count: int, scratch: str) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{HERE}:0",
        local_addr=HERE,
        max_restarts=0,
        start_method="forkserver",
        logs_specs=DefaultLogsSpecs(log_dir=scratch),
        # Ctrl-C is Python's KeyboardInterrupt here, after which the launcher ends the others.
        signals_to_handle="SIGTERM",
        shutdown_timeout=GRACE_SECONDS,
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the launcher from telling what is told here, and take its handler of SIGTERM away afterwards."""
    handler = signal.getsignal(signal.SIGTERM)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        signal.signal(signal.SIGTERM, handler)


def _why(records: Path, rank: int, exitcode: int, count: int) -> Exception:
    """What ended the processes: a death that left no word before words, and of words the first."""
    which = f"process {rank + 1} of {count}"
    if exitcode < 0:
        name = signal.Signals(-exitcode).name
        return RunError(
            f"{which} was ended by {name}, and took the others with it: out of memory, or somebody's kill. The epochs so "
            "far are saved; repeat the same command to continue."
        )
    said = [json.loads(path.read_text(encoding="utf-8")) for path in records.glob("*.json")]
    # What another one says then is that its connection was lost.
    if not said or exitcode not in ENDINGS:
        return MemberFault(f"{which} ended with exit code {exitcode} without a word")
    first = min(said, key=lambda record: float(record["time"]))
    if first["refused"]:
        return RunError(first["text"])
    return MemberFault(f"process {first['rank'] + 1} of {count}:\n{first['text']}")

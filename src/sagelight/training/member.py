"""One of the processes that `sagelight.training.together` starts: it works, and ends as the person would want it."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from sagelight.errors import SagelightError
from sagelight.files import write_json
from sagelight.forking import end_with_parent
from sagelight.processes import REFUSED, Processes, collect_as_usual, hear_stop

T = TypeVar("T")
INTERRUPTED = 130
FAULT = 1
# What a process that ends in its own words ends with.
ENDINGS = (INTERRUPTED, FAULT, REFUSED)
# What the launcher has set for this process alone.
_OWN = ("RANK", "WORLD_SIZE", "MASTER_", "LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_")
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
# A process that is lost is found within a tenth of this by the launcher, which is to hear of it first.
_SECONDS = 1.0
_LONGEST = 5.0


def member(
    records: Path,
    environment: Mapping[str, str],
    threads: int,
    work: Callable[..., T],
    args: tuple[object, ...],
) -> T:
    """Do `work` as one process of several; what ends it early is written to `records` and not printed.

    Args:
        environment: of the process that was asked; the one that this is forked from may be older.
        threads: that PyTorch may use, unless OMP_NUM_THREADS says it.
    """
    hear_stop()
    end_with_parent()
    collect_as_usual()
    os.environ.update({k: v for k, v in environment.items() if not k.startswith(_OWN)})
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    if "OMP_NUM_THREADS" not in environment:
        import torch

        torch.set_num_threads(threads)
    try:
        return work(*args)
    except SagelightError as error:
        _say(records, str(error), refused=True)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit:
        _wait_for_words(records)
        raise
    except Exception:
        # Where another process is lost, this one fails at the lost connection.
        _say(records, traceback.format_exc(), refused=False)
        time.sleep(_SECONDS)
        sys.exit(FAULT)


def _say(records: Path, text: str, refused: bool) -> None:
    rank = Processes.here().rank
    record = {"rank": rank, "time": time.time(), "refused": refused, "text": text}
    write_json(records / f"{rank}.json", record)


def _wait_for_words(records: Path) -> None:
    """The first process has been refused something, and says so; its end must not be hurried before it has."""
    deadline = time.monotonic() + _LONGEST
    while not any(records.glob("[0-9]*.json")) and time.monotonic() < deadline:
        time.sleep(_SECONDS / 10)

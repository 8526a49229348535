"""Checkpoints that are whole or absent, and hold tensors and plain values only."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from sagelight.errors import RunError, first_line
from sagelight.files import atomic
from sagelight.processes import Processes
from sagelight.training.resuming import BEST, LAST, belongs_to
from sagelight.training.run import Run
from sagelight.tuning.settings import HpoSettings


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, then renames; the first process reads for all of them."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read without unpickling objects, whatever is asked.

        Raises:
            RunError: see `read_checkpoint`.
        """
        return self._processes.once(lambda: read_checkpoint(Path(path)))

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(target) as file:
            file.write(buffer.getbuffer())

    def remove_checkpoint(self, path: Any) -> None:
        """Nothing: ours are replaced, and Lightning asks this of a path that it has read in a checkpoint.

        Lightning's own would remove whatever it names, such as local:///home/me, with all that is in it.
        """


class KeptCheckpoint(ModelCheckpoint):
    """Goes on in the folder where its files lie now: a run may be moved, and a spot job's next machine has another."""

    @property
    def state_key(self) -> str:
        # The name that earlier versions have left in checkpoints.
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        there, here = str(state_dict["dirpath"]), str(self.dirpath)
        if (Path(here) / Path(state_dict["best_model_path"]).name).is_file():
            state_dict = {name: _moved(value, there, here) for name, value in state_dict.items()}
        super().load_state_dict(state_dict)


def _moved(value: Any, there: str, here: str) -> Any:
    if isinstance(value, dict):
        return {_moved(path, there, here): score for path, score in value.items()}
    return (
        here + value.removeprefix(there)
        if isinstance(value, str) and value.startswith(there)
        else value
    )


def checkpoint_callbacks(folder: Path, hpo: HpoSettings) -> list[ModelCheckpoint]:
    """best.ckpt whenever the objective improves; then last.ckpt after every epoch.

    Lightning's own `save_last` writes only when a best one is written, so it would lose the epochs between.
    """
    common: dict[str, Any] = {
        "dirpath": folder,
        "save_top_k": 1,
        "auto_insert_metric_name": False,
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    return [
        KeptCheckpoint(filename="best", monitor=hpo.metric, mode=hpo.mode, **common),
        KeptCheckpoint(filename="last", monitor=None, **common),
    ]


def read_checkpoint(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Load a checkpoint without unpickling objects.

    Args:
        mapped: leave tensors on the disk until somebody looks at them.

    Raises:
        RunError: missing, truncated, or not a checkpoint.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint. Type resume=auto, resume=off or resume=PATH.")
    try:
        loaded: dict[str, Any] = torch.load(
            path, map_location="cpu", weights_only=True, mmap=mapped
        )
        if "state_dict" not in loaded:
            raise ValueError("it holds no state_dict")
    except Exception as error:  # A damaged pickle can raise anything.
        raise RunError(
            f"{path} is no checkpoint that can be read ({first_line(error)}). "
            "Type resume=off to start anew."
        ) from error
    return loaded


def bring_checkpoints(run: Run) -> None:
    """Where a run goes on from another's checkpoint, the best epoch so far is that other's; from its best, that is its last."""
    if run.checkpoint is None:
        return
    if run.checkpoint == run.best:
        _copy(run.best, run.best.with_name(LAST))
    elif not run.best.is_file() and belongs_to(
        other := run.checkpoint.with_name(BEST), run.checkpoint
    ):
        _copy(other, run.best)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as file, source.open("rb") as content:
        shutil.copyfileobj(content, file)


def load_network(network: nn.Module, path: Path) -> None:
    """Fill a network with the weights of a checkpoint (averaged ones, where EMA is on)."""
    state = read_checkpoint(path)["state_dict"]
    prefix = "network."
    network.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )

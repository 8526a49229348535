"""`trainer=fsdp`: each process holds a part of every weight, its gradient and the optimizer's state.

PyTorch's `fully_shard` through Lightning. Checkpoints hold whole tensors under the usual names, written by the first
process, so that one process, or another number of them, goes on with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from sagelight.data.dataset import Batch
from sagelight.models.classifier import Classifier
from sagelight.models.network import Network

# A part of the network with more of its parameters than this is gathered in several pieces.
LARGEST_PIECE = 1 / 8
COMPUTED = ("fused", "foreach")


class ShardedClassifier(Classifier):
    """A classifier whose network Lightning asks to divide when the processes are connected."""

    def configure_model(self) -> None:
        if _is_divided(self.network):
            return
        assert self.device_mesh is not None
        if self.device_mesh.device_type == "cuda":
            # Before it is divided: a BatchNorm is exchanged for another module.
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        shard(self.network, self.device_mesh["data_parallel"])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if len(batch) == 0:
            # The others gather the network's parts now, and need those of this process.
            self.network(self._blank())
            return
        super().validation_step(batch, batch_idx)

    def _blank(self) -> Tensor:
        size = self.config.data.image_size
        cached = self.config.features.cache == "on"
        shape, kind = (
            ((1, self.network.width), torch.float32)
            if cached
            else ((1, 3, size, size), torch.uint8)
        )
        return torch.zeros(shape, dtype=kind, device=self.device)


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy, with checkpoints as every other strategy writes and reads them."""

    def __init__(self, processes: int) -> None:
        super().__init__(
            data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
        )

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The network's tensors, whole; all processes must ask for them."""
        assert self.lightning_module is not None
        state = self.lightning_module.state_dict()
        return {name: _whole(value) for name, value in state.items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As `Optimizer.state_dict`, with whole tensors; all processes must ask for it."""
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        content = inner.state_dict()
        state = {
            place: {name: _whole(value) for name, value in values.items()}
            for place, values in content["state"].items()
        }
        return {**content, "state": state}

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of any strategy, and take this process's part of its tensors."""
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=True)
        module = self.lightning_module
        assert module is not None
        own = module.state_dict()
        parts = {n: _part(value, own.get(n)) for n, value in checkpoint["state_dict"].items()}
        module.load_state_dict(parts)
        for optimizer, content in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            _load_optimizer(optimizer, content)
        return checkpoint


def is_sharded(model: Classifier) -> bool:
    """Whether a process holds only a part of a model's parameters, now or in training."""
    return isinstance(model, ShardedClassifier)


def _is_divided(network: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


def shard(network: Network, mesh: Any) -> None:
    """Divide a network's parameters over a mesh, in pieces that are gathered one after the other."""
    # Weights are divided along their first axis, which must be the outermost in memory.
    network.to(memory_format=torch.contiguous_format)
    total = sum(parameter.numel() for parameter in network.parameters())
    for piece in pieces(network.backbone, total * LARGEST_PIECE):
        fully_shard(piece, mesh=mesh)
    fully_shard(network, mesh=mesh)


def pieces(module: nn.Module, most: float) -> Iterator[nn.Module]:
    """Submodules that are called as such and hold at most so many parameters, where they can be cut so small.

    Attention reads its projections' weights without calling them, so only sequences, and what holds one, are cut.
    """
    for child in module.children():
        count = sum(parameter.numel() for parameter in child.parameters())
        if count > most and any(isinstance(m, nn.Sequential) for m in (child, *child.children())):
            yield from pieces(child, most)
        elif count:
            yield child


def _load_optimizer(optimizer: Optimizer, content: dict[str, Any]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        place: {name: _part(value, parameters[place]) for name, value in values.items()}
        for place, values in content["state"].items()
    }
    # How a step is computed is this training's own: another's fused kernels would misread divided tensors.
    groups = [
        theirs | {name: ours[name] for name in COMPUTED if name in ours}
        for theirs, ours in zip(content["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**content, "state": state, "param_groups": groups})


def _whole(value: Any) -> Any:
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _part(value: Any, like: Any) -> Any:
    """This process's part of a whole tensor that stands for `like`; what is not divided, such as a step, as it is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    value = value.to(like.device)
    # Every process has the whole one: nothing is sent.
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)

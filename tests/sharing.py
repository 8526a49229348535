"""Processes that share the photos of shards, and what each of them has seen."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.data.module import PhotoDataModule
from sagelight.data.prepare import open_index
from sagelight.data.settings import AugmentSettings, DataSettings
from sagelight.forking import FORKING
from sagelight.processes import Processes

SPEC = Preprocessing(18, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def module(root: Path, processes: Processes = Processes(), **more: Any) -> PhotoDataModule:  # noqa: B008
    settings: dict[str, Any] = {"name": "shards", "root": str(root), "image_size": 16}
    settings |= {"batch_size": 9, "eval_batch_size": 4, "num_workers": 0, "shuffle_shards": 2}
    settings |= {"prefetch": 2, "pin_memory": "off"}
    data = DataSettings(**{**settings, **more})
    return PhotoDataModule(open_index(data), data, AugmentSettings(), SPEC, 0, processes)


def share(rank: int, size: int, root: str, name: str, found: Any) -> None:
    """One of several processes: takes its share of two epochs, and tells all of it over gloo."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{root}/../meet-{name}-{size}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
    )
    data = module(Path(root), Processes(rank, size, rank, size), name=name)
    loader = data.train_dataloader()
    seen = {}
    for epoch in (0, 1):
        loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        seen[f"epoch {epoch}"] = [batch.positions.tolist() for batch in loader]
    seen["validation"] = [batch.positions.tolist() for batch in data.val_dataloader()]
    everyone: list[Any] = [None] * size
    torch.distributed.all_gather_object(everyone, seen)
    if rank == 0:
        found.put(pickle.dumps(everyone))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def together(root: Path, size: int, name: str = "shards") -> list[dict[str, list[list[int]]]]:
    """What each of `size` processes has seen, by rank."""
    found = FORKING.SimpleQueue()
    processes = [
        FORKING.Process(target=share, args=(rank, size, str(root), name, found))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return list(pickle.loads(found.get()))

"""Every photo once an epoch, however many processes share it, and few shards at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from images import make_folder
from sagelight.data.dataset import Batch, Draw
from sagelight.data.module import PhotoDataModule
from sagelight.data.shards.order import ShardSampler
from sagelight.errors import DataError
from sharing import module, together
from stories.commands import refused, run

# 41 training photos in batches of 9 leave 5: a batch for 1 and 2 processes, too few for 3 and 4 with two photos each.
UNEVEN = {"train": {"a": 22, "b": 19}, "validation": {"a": 6, "b": 5}, "test": {"a": 3, "b": 2}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("uneven")
    photos = make_folder(base / "photos", UNEVEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sagelight.data.shards.prepare.MEGABYTE", 40_000)
        assert run("prepare", f"data.root={photos}", f"output={base / 'shards'}", "shard_mb=1") == 0
    return base / "shards"


def positions(batches: Any) -> list[int]:
    return [position for batch in batches for position in batch.positions.tolist()]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_any_number_of_processes_sees_every_photo_once(shards: Path, size: int) -> None:
    alone = module(shards).train_dataloader()
    everyone = together(shards, size)
    for epoch in (0, 1):
        alone.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        whole = [batch.positions.tolist() for batch in alone]
        shares = [seen[f"epoch {epoch}"] for seen in everyone]
        assert len({len(batches) for batches in shares}) == 1
        seen = [p for batches in shares for batch in batches for p in batch]
        assert sorted(seen) == list(range(41))
        for batch, *parts in zip(whole, *shares, strict=size < 3):
            fewest, most = min(map(len, parts)), max(map(len, parts))
            assert most - fewest <= 1
            if sum(map(len, parts)) == len(batch):
                assert sorted(p for part in parts for p in part) == sorted(batch)
    seen = [p for each in everyone for batch in each["validation"] for p in batch]
    assert sorted(seen) == list(range(11))


def order(sampler: ShardSampler, epoch: int) -> list[Draw]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_photos_are_shuffled_within_a_few_shards(shards: Path) -> None:
    index = module(shards).index
    samples = index.splits["train"]
    assert index.shards is not None
    sampler = ShardSampler(index.shards, samples, seed=3, window=2)
    drawn = order(sampler, 0)
    assert drawn == order(sampler, 0)
    assert [d.position for d in drawn] != [d.position for d in order(sampler, 1)]
    assert len({draw.seed for draw in drawn}) == len(drawn)
    numbers = [int(index.shards.shard[index.shards.rows[samples[d.position].path]]) for d in drawn]
    most = max(len(set(numbers[start : start + 4])) for start in range(len(numbers)))
    assert len(set(numbers)) > 4
    # Where one window ends, the next begins.
    assert most <= 4
    first_seen = list(dict.fromkeys(numbers))
    for start in range(0, len(first_seen), 2):
        near = first_seen[start : start + 2]
        places = [place for place, number in enumerate(numbers) if number in near]
        assert places == list(range(places[0], places[-1] + 1))


def test_batches_are_those_of_the_folder(shards: Path) -> None:
    folder = module(shards.parent / "photos", name="folder", shuffle_shards=0)
    theirs = module(shards, shuffle_shards=0)

    def same(loaders: Callable[[PhotoDataModule], Any]) -> None:
        for one, other in zip(loaders(folder), loaders(theirs), strict=True):
            assert isinstance(one, Batch)
            for name in ("images", "targets", "positions"):
                assert torch.equal(getattr(one, name), getattr(other, name))

    same(lambda data: data.train_dataloader())
    same(lambda data: data.eval_loader("validation"))
    same(lambda data: data.eval_loader("test"))


def test_loader_processes_change_nothing(shards: Path) -> None:
    alone = positions(module(shards).train_dataloader())
    assert positions(module(shards, num_workers=2).train_dataloader()) == alone
    assert positions(module(shards, num_workers=2).val_dataloader()) == list(range(11))


@pytest.mark.parametrize("processes", [0, 1])
def test_what_a_loader_process_finds_damaged_is_said_without_its_traceback(
    shards: Path, tmp_path: Path, processes: int
) -> None:
    root = shutil.copytree(shards, tmp_path / "shards")
    data = module(root, num_workers=processes, shuffle_shards=0)
    os.truncate(root / "train-00000.tar", 1000)
    with pytest.raises(DataError) as raised:
        list(data.train_dataloader())
    assert str(raised.value) == (f"data.root={root}: train-00000.tar ends too soon. Copy it again.")


def test_drawing_by_class_needs_all_photos_near(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=shards", f"data.root={shards}", "data.shuffle_shards=2", "data.batch_size=8"]
    message = refused(capsys, *words, "data.sampler=balanced", "model.weights=none", "run_dir=run")
    assert "data.sampler=balanced draws from all photos" in message

"""Batches that hold every photo once an epoch, and go on where a checkpoint within it was written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, Sampler

from sagelight.data.dataset import Batch, Draw, EpochSampler, Photo, Shares, Unreadable
from sagelight.errors import RunError


class WholeBatches(BatchSampler):
    """Batches of an epoch with every photo in one of them: the last ones, too few for a batch of their own, join the
    batch before.
    """

    def __init__(self, epochs: EpochSampler, batch_size: int, least: int) -> None:
        """
        Args:
            least: the fewest photos of a batch.
        """
        super().__init__(epochs, batch_size, drop_last=False)  # type: ignore[arg-type]
        self._least = least

    def __len__(self) -> int:
        whole, left = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return whole + (left >= self._least)

    def __iter__(self) -> Iterator[list[Any]]:
        last = list[Any]()
        for batch in super().__iter__():
            if len(batch) < self._least:
                last += batch
            else:
                if last:
                    yield last
                last = batch
        yield last


class EpochBatches(Sampler[list[Draw]]):
    """A process's share of the batches of each epoch; of one of them, only those after the first few.

    Lightning finds the sampler that needs `set_epoch` as `sampler`.
    """

    def __init__(self, epochs: EpochSampler, batches: BatchSampler, rank: int, size: int) -> None:
        self.sampler = epochs
        self._shares: Shares[Draw] = Shares(batches, rank, size)
        self._order = f"{epochs.identity}, batches of {batches.batch_size}"
        self._resumed: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._shares)

    def __iter__(self) -> Iterator[list[Draw]]:
        yield from islice(self._shares, self.first(), None)

    def first(self) -> int:
        """How many batches of this epoch are behind us.

        Raises:
            RunError: some are, and they were those of another order.
        """
        behind = int(self._resumed.get("batches", 0))
        if not behind or self._resumed["epoch"] != self.sampler.epoch:
            return 0
        if self._resumed["order"] != self._order:
            raise RunError(
                f"the checkpoint was written within epoch {self.sampler.epoch + 1}, after {behind} batches of another "
                f"order ({self._resumed['order']}; now {self._order}), so photos would be missed or seen twice. "
                "Type the same data.* settings and seed, or resume=DIR/best.ckpt, which ends with an epoch."
            )
        return behind

    def place(self, batches: int) -> dict[str, Any]:
        """Where an epoch is after some batches, in plain values."""
        return {"epoch": self.sampler.epoch, "batches": batches, "order": self._order}

    def resume(self, place: dict[str, Any]) -> None:
        """Let the epoch of `place` begin after its batches; the other epochs are whole."""
        self._resumed = dict(place)


class EpochLoader(DataLoader[Photo | Unreadable]):
    """A loader over `EpochBatches` that tells and takes its place, by Lightning's protocol for stateful loaders.

    Loader processes are ahead of training, so what counts is what was taken, not what was drawn.
    """

    batch_sampler: EpochBatches

    def state_dict(self) -> dict[str, Any]:
        return self.batch_sampler.place(self._taken)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batch_sampler.resume(state)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self._taken = self.batch_sampler.first()
        return _Counted(super().__iter__(), self)

    _taken = 0

    def take(self) -> None:
        """One more batch is in somebody's hands."""
        self._taken += 1


class _Counted(Iterator[Batch]):
    """Not a generator: loader processes start where it is made, before a training has threads."""

    def __init__(self, batches: Iterator[Any], loader: EpochLoader) -> None:
        self._batches = batches
        self._loader = loader

    def __next__(self) -> Batch:
        batch: Batch = next(self._batches)
        self._loader.take()
        return batch

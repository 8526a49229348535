"""What a study trains: a trial without a test or a bundle, and what trials over a frozen backbone share."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from sagelight.config.schema import Config
from sagelight.data.index import ImageIndex
from sagelight.features.table import FeatureDataset, cache_features
from sagelight.models.network import Network
from sagelight.processes import Processes
from sagelight.progress import ShowsProgress, progress
from sagelight.training.callbacks import Watch, Watcher
from sagelight.training.fit import build, build_trainer, train
from sagelight.training.prepare import prepare, write_files
from sagelight.training.quiet import explained, quiet
from sagelight.training.run import locked


def train_trial(config: Config, watch: Watcher) -> int:
    """Train one trial of a study, without measuring test or leaving a bundle; a started one is continued.

    Args:
        config: as for `fit`, with a run_dir of the trial's own; changed in place.
        watch: asked by the first process; see `sagelight.training.callbacks.Watch`.

    Returns:
        How many photos went through a frozen backbone for it; 0 where features are not cached.

    Raises:
        SagelightError: as `fit`.
    """
    processes = Processes.here()
    with ExitStack() as stack:
        stack.enter_context(processes.joined())
        prepared = prepare(config, processes)
        model, data = build(config, prepared.index, processes)
        served = cache_features(config, model.network, data)
        if processes.first:
            stack.enter_context(locked(prepared.run.folder))
            stack.enter_context(explained(prepared.run))
            write_files(config, prepared)
        stack.enter_context(quiet())
        watcher = Watch(watch)
        trainer = build_trainer(config, prepared.run, processes, [watcher])
        train(trainer, model, data, prepared.run)
        watcher.tell(trainer)
    return sum(dataset.computed for dataset in served.values())


@dataclass(frozen=True)
class Frozen:
    """A network whose backbone does not train, and what it gives for every photo.

    Attributes:
        config: with every `auto` resolved.
        served: features by split.
    """

    config: Config
    network: Network
    index: ImageIndex
    served: dict[str, FeatureDataset]

    @property
    def computed(self) -> int:
        """Photos that went through the backbone now."""
        return sum(dataset.computed for dataset in self.served.values())


def prepare_frozen(config: Config, show: ShowsProgress = progress) -> Frozen:
    """Everything that `fit` does before the first epoch of a head on cached features, writing no run.

    Raises:
        SagelightError: as `fit`.
    """
    prepared = prepare(config, Processes())
    model, data = build(config, prepared.index, Processes())
    served = cache_features(config, model.network, data, show)
    return Frozen(config, model.network, prepared.index, served)

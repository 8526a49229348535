"""Where a study in the cloud runs: as a tuning job of many trainings, or whole inside one training job."""

from __future__ import annotations

from typing import Literal

from sagelight.config.compose import compose
from sagelight.errors import ConfigError
from sagelight.features.batching import BATCHED, trains_in_batches
from sagelight.tuning.space import Space
from sagelight.tuning.study import Study

Backend = Literal["job", "tuner"]
# Settings that neither make a head trainable in batches nor keep it from that.
HARMLESS = (*BATCHED, "data.batch_size", "loss", "optimizer")


def choose_backend(study: Study) -> tuple[Backend, str]:
    """`hpo.backend`, resolved, and why.

    Raises:
        ConfigError: `local`, which is another door.
    """
    asked = study.config.hpo.backend
    if asked == "local":
        raise ConfigError(
            "hpo.backend=local: this door leads to SageMaker. Type python launch/local.py, or hpo.backend=auto."
        )
    if asked == "tuner":
        return "tuner", "hpo.backend=tuner"
    if asked == "job":
        return "job", "hpo.backend=job"
    if _cheap_in_one_job(study):
        return "job", "the backbone is frozen, so one machine runs it once for all trials"
    return "tuner", "each trial runs the backbone itself"


def _cheap_in_one_job(study: Study) -> bool:
    """Whether every trial is a head on the same features, as far as the space can be seen."""
    if study.config.hpo.warm_start or not trains_in_batches(study.config):
        return False
    telling = [d for d in study.space.dimensions if not _harmless(d.name)]
    if any(d.name.split(".")[0] == "model" for d in telling):
        # Weights travel for one backbone.
        return False
    texts = Space(tuple(telling)).samples()
    return all(trains_in_batches(compose([*study.fixed, text])) for text in texts)


def _harmless(name: str) -> bool:
    return name in HARMLESS or name.split(".")[0] in HARMLESS

"""What a strategy cannot do with a space, wherever the study runs."""

from __future__ import annotations

from collections.abc import Iterator

from sagelight.tuning.space import Categorical, Integer
from sagelight.tuning.study import Study


def hyperband_problems(study: Study) -> Iterator[str]:
    """Hyperband gives out epochs itself, and stops trials itself."""
    hpo = study.config.hpo
    if hpo.strategy != "hyperband":
        return
    if hpo.early_stopping:
        yield "hpo.strategy=hyperband stops weak trials itself. Type hpo.early_stopping=false"
    if "trainer.max_epochs" in study.space.names:
        yield (
            "hpo.strategy=hyperband gives out epochs itself, so they cannot be varied too. "
            "Type trainer.max_epochs=10, the most that a trial may have"
        )
    elif hpo.min_epochs > study.config.trainer.max_epochs:
        yield (
            f"hpo.min_epochs={hpo.min_epochs} is above trainer.max_epochs={study.config.trainer.max_epochs}. "
            "Type hpo.min_epochs=1"
        )


def grid_problems(study: Study, most_values: int | None = None) -> Iterator[str]:
    """A grid needs values that can be listed, at most `most_values` of a setting."""
    if study.config.hpo.strategy != "grid":
        return
    for dimension in study.space.dimensions:
        if isinstance(dimension, Categorical):
            continue
        listed = isinstance(dimension, Integer)
        if not listed or (most_values and len(dimension.values()) > most_values):  # type: ignore[union-attr]
            yield (
                f"hpo.strategy=grid tries listed values, and {dimension.name} is a range. "
                f"Type {dimension.name}=A,B,C or hpo.strategy=random"
            )

"""What decides which epoch and which trial is best, and how a study looks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sagelight.config.setting import setting


@dataclass
class HpoSettings:
    metric: str = setting(
        "val/accuracy",
        "What decides which epoch is best; measured on validation, never on test.",
        choices=("val/accuracy", "val/macro_f1", "val/top5_accuracy", "val/loss"),
    )
    direction: str = setting(
        "auto",
        "auto: val/loss is minimized, all else maximized.",
        choices=("auto", "maximize", "minimize"),
    )
    strategy: str = setting(
        "bayesian",
        "How a study chooses its trials; grid tries every combination, hyperband stops weak trials early.",
        choices=("bayesian", "random", "hyperband", "grid"),
    )
    backend: str = setting(
        "auto",
        "Where a study runs. local: this machine; job: whole, inside one SageMaker training job; tuner: a SageMaker "
        "tuning job; auto: what the door leads to, and there the cheaper one.",
        choices=("auto", "local", "job", "tuner"),
    )
    max_jobs: int = setting(
        20, "Trials of a study; grid has as many as there are combinations.", least=1
    )
    max_parallel_jobs: int = setting(2, "Trials that train at the same time.", least=1)
    max_study_seconds: int | None = setting(
        None,
        "Longest time of a whole study, 120 or more; null sets no limit of its own.",
        least=120,
    )
    early_stopping: bool = setting(
        False, "Stop trials whose objective falls below the median of the earlier ones'."
    )
    target: float | None = setting(None, "Objective at which a study ends; null: none.")
    patience: int | None = setting(
        None,
        "Trials without a better objective after which a study ends, 3 or more; null: none.",
        least=3,
    )
    until_converged: bool = setting(False, "End a study when a better trial has become unlikely.")
    min_epochs: int = setting(1, "hyperband: fewest epochs that a trial trains.", least=1)
    warm_start: list[str] = setting([], "Names of up to five earlier tuning jobs to learn from.")
    warm_start_type: str = setting(
        "identical",
        "identical: same data and code as the earlier jobs; transfer: similar ones.",
        choices=("identical", "transfer"),
    )
    retrain: bool = setting(
        False, "Train once more with the best trial's settings when a study ends."
    )

    @property
    def mode(self) -> Literal["min", "max"]:
        """The resolved direction in Lightning's word."""
        return "min" if self.direction == "minimize" else "max"

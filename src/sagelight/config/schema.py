"""The whole configuration of a training run: one field a group, each declared in its own room."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import group, setting
from sagelight.data.settings import AugmentSettings, DataSettings
from sagelight.debugging.settings import DebuggerSettings
from sagelight.features.settings import FeatureSettings
from sagelight.models.settings import (
    FinetuneSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
)
from sagelight.profiling.settings import ProfilerSettings
from sagelight.training.settings import CallbackSettings, LoggerSettings, TrainerSettings
from sagelight.tuning.settings import HpoSettings


@dataclass
class Config:
    name: str = setting(
        "auto", "Name of the run's folder below runs/; auto is the experiment's name."
    )
    seed: int = setting(
        0, "Seed of everything random: the same seed gives the same losses.", least=0
    )
    run_dir: str = setting("auto", "Where the run writes; auto is runs/<name>/<time>.")
    resume: str = setting(
        "auto",
        "auto continues an unfinished run of this configuration; off starts anew; or a checkpoint's path.",
    )
    check: str = setting(
        "strict",
        "What a data set unfit to train on does: strict refuses, warn tells and goes on, off does not look.",
        choices=("strict", "warn", "off"),
    )
    explain: bool = setting(
        True,
        "Heat maps of the most confused pairs in the report, at the price of at most 400 answers of the network.",
    )
    data: DataSettings = group(DataSettings)
    augment: AugmentSettings = group(AugmentSettings)
    model: ModelSettings = group(ModelSettings)
    finetune: FinetuneSettings = group(FinetuneSettings)
    features: FeatureSettings = group(FeatureSettings)
    loss: LossSettings = group(LossSettings)
    optimizer: OptimizerSettings = group(OptimizerSettings)
    schedule: ScheduleSettings = group(ScheduleSettings)
    trainer: TrainerSettings = group(TrainerSettings)
    callbacks: CallbackSettings = group(CallbackSettings)
    logger: LoggerSettings = group(LoggerSettings)
    debugger: DebuggerSettings = group(DebuggerSettings)
    profiler: ProfilerSettings = group(ProfilerSettings)
    hpo: HpoSettings = group(HpoSettings)
    cloud: CloudSettings = group(CloudSettings)

"""Which heads can be trained in one pass. No torch here."""

from __future__ import annotations

from dataclasses import asdict

from sagelight.config.schema import Config
from sagelight.features.settings import reason_against

# Settings in which the heads of one batch may differ; all others are the same, or groups of batches.
BATCHED = (
    "seed", "optimizer.lr", "optimizer.weight_decay", "optimizer.momentum", "model.dropout", "loss.label_smoothing",
    "trainer.max_epochs", "schedule", "callbacks.ema_decay",
)  # fmt: skip
# They say where a run happens, not what it computes.
ELSEWHERE = ("run_dir", "resume", "name", "hpo", "cloud")


def trains_in_batches(config: Config) -> bool:
    """Whether this is a head on cached features whose training is one that batches do exactly."""
    trainer, callbacks = config.trainer, config.callbacks
    return (
        config.features.cache != "off"
        and reason_against(config) is None
        and trainer.accumulate_grad_batches == 1
        and trainer.gradient_clip_val == 0
        and trainer.precision in ("auto", "32-true")
        and trainer.limit_val_batches is None
        and callbacks.early_stopping_patience == 0
    )


def batch_of(config: Config) -> str:
    """What configurations share whose heads can be trained in one pass."""
    values = asdict(config)
    for name in (*BATCHED, *ELSEWHERE):
        group, _, key = name.partition(".")
        if key:
            del values[group][key]
        else:
            del values[group]
    return repr(values)

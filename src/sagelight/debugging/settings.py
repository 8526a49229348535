"""What can be chosen about watching a training's tensors. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sagelight.config.setting import setting


@dataclass
class DebuggerSettings:
    sink: str = setting(
        "trial",
        "Who keeps the tensors: trial is our writer in smdebug's layout, smdebug the real library's hook.",
        choices=("off", "trial", "smdebug"),
    )
    save_interval: int = setting(
        200, "Training steps between two looks at weights, gradients and activations.", least=1
    )
    raw: bool = setting(
        False,
        "Keep whole weights and gradients instead of their reductions; what that costs is said before.",
    )
    workers: str = setting(
        "one", "Which processes of a training write a trial.", choices=("one", "all")
    )
    hook_config: str | None = setting(
        None,
        "A debughookconfig.json as SageMaker writes it; it then decides what is saved and when.",
    )
    rules: list[str] = setting(
        [], "Rules by AWS's names, or import paths of your own; an empty list is the usual ones."
    )
    parameters: dict[str, Any] = setting(
        {},
        "Parameters by rule, as {Overfit: {patience: 5}}; the others are AWS's, or gentler ones.",
    )
    actions: dict[str, str] = setting(
        {},
        "What a finding does, by rule: {ExplodingTensor: stop}; warn, which says it, is the default.",
    )
    cloud: bool = setting(
        False, "Ask SageMaker's own Debugger too; for accounts that still have it."
    )

"""The callbacks that watch a training's tensors, by its configuration."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning.callbacks import Callback

from sagelight.debugging.bridge import Bridge
from sagelight.debugging.hook_config import read_hook_config
from sagelight.debugging.replay import KeepForReplay
from sagelight.debugging.rules.course import StalledTraining
from sagelight.debugging.settings import DebuggerSettings
from sagelight.debugging.stall import StallWatch
from sagelight.debugging.trial import FOLDER, TRIAL
from sagelight.debugging.watch import STOP, RuleWatch


def check_debugger(settings: DebuggerSettings) -> None:
    """Refuse before anything is written what would end the training at its first step.

    Raises:
        ConfigError: a debughookconfig.json that is wrong.
        RunError: smdebug is asked for, and cannot be imported.
    """
    if settings.sink == "off":
        return
    if settings.hook_config is not None:
        read_hook_config(Path(settings.hook_config))
    if settings.sink == "smdebug":
        from sagelight.debugging.smdebug_sink import import_smdebug

        import_smdebug()


def build_debugger(settings: DebuggerSettings, run: Path, whole: bool = True) -> list[Callback]:
    """None where it is off; else a bridge, the rules, and what keeps a loss that is not finite.

    Args:
        run: the run's directory; everything lies below its `debugger/`.
        whole: whether this process holds the network's weights whole; the replay of a bad step needs them.

    Raises:
        ConfigError: an unknown rule or parameter.
        RunError: smdebug is asked for, and cannot be imported.
    """
    if settings.sink == "off":
        return []
    folder = run / FOLDER
    bridge = _bridge(settings, folder / TRIAL)
    watch = RuleWatch(settings, bridge, folder)
    callbacks: list[Callback] = [bridge, watch]
    callbacks += [KeepForReplay(bridge, folder)] if whole else []
    callbacks += [
        StallWatch(rule.threshold, settings.actions.get("StalledTraining") == STOP)
        for rule in watch.rules
        if isinstance(rule, StalledTraining)
    ]
    return callbacks


def _bridge(settings: DebuggerSettings, folder: Path) -> Bridge:
    if settings.sink != "smdebug":
        return Bridge(settings, folder)
    from sagelight.debugging.smdebug_sink import SmdebugBridge

    return SmdebugBridge(settings, folder)

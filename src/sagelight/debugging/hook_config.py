"""What is saved of a training, and when: our default, or a debughookconfig.json as SageMaker writes it.

Source: smdebug 1.0.34 (core/json_config, core/save_config, core/reduction_config). Every value in that file is text; here
each is read as what it must be, and nothing is ever evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagelight.debugging.records import MODES
from sagelight.debugging.settings import DebuggerSettings
from sagelight.debugging.trial import REDUCTIONS
from sagelight.errors import ConfigError, suggestion

# smdebug's own collections, and what belongs to them.
BUILT_IN = {
    "weights": r"^(?!gradient|update).*weight",
    "biases": r"^(?!gradient|update).*bias",
    "gradients": r"^gradient/",
    "losses": r"[Ll]oss_(?!input).*output",
}
# Ours, for the rules that need them. Of activations and images only what the rules ask is kept.
OURS = {
    "updates": r"^update/",
    "relu_input": r"$^",
    "relu_output": r"$^",
    "saturation": r"$^",
    "inputs": r"_input_0_means$",
    "labels": r"^labels$",
    "predictions": r"^predictions$",
}
DEFAULT_INTERVAL = 500
# Most that goes wrong goes wrong early.
EARLY = (0, 1, 2, 5, 10, 20, 50, 100)
# So many losses an epoch show its course.
LOSSES_AN_EPOCH = 50


@dataclass(frozen=True)
class When:
    """In which steps of a mode something is saved, as smdebug decides it.

    Attributes:
        interval: every so many steps, from 0.
        steps: besides these.
        start, end: the interval counts from the one up to the other, exclusive.
    """

    interval: int = DEFAULT_INTERVAL
    steps: frozenset[int] = frozenset()
    start: int = 0
    end: int | None = None

    def holds(self, step: int) -> bool:
        """Whether this step, counted from 0 within its mode, is saved."""
        if step in self.steps:
            return True
        begun = step >= self.start and (self.end is None or step < self.end)
        return begun and step % self.interval == 0


@dataclass(frozen=True)
class Collection:
    """Tensors that are saved together.

    Attributes:
        regexes: of the names that belong to it.
        when: by mode.
        reductions: by smdebug's names (`abs_mean`, `l2`); none keeps whole tensors.
    """

    name: str
    regexes: tuple[str, ...]
    when: Mapping[str, When]
    reductions: tuple[str, ...] = ()

    def takes(self, tensor: str) -> bool:
        """Whether a tensor of that name belongs to it."""
        return any(re.search(regex, tensor) for regex in self.regexes)


@dataclass(frozen=True)
class HookConfig:
    """What is saved.

    Attributes:
        folder: of the trial, if the configuration names one.
        workers: `one` or `all` of the training's processes.
    """

    collections: tuple[Collection, ...]
    folder: Path | None = None
    workers: str = "one"

    def due(self, mode: str, step: int) -> list[Collection]:
        """The collections that are saved in a step of a mode."""
        return [each for each in self.collections if each.when[mode].holds(step)]


def default_hook_config(settings: DebuggerSettings, batches: int) -> HookConfig:
    """What is saved when nobody says otherwise: losses often, reductions of the rest early and then seldom.

    Whole, with `settings.raw`, are weights, gradients and updates: what they take is known before.

    Args:
        batches: training batches an epoch.
    """
    seldom = dict.fromkeys(MODES, When(settings.save_interval, frozenset(EARLY)))
    often = dict.fromkeys(MODES, When(max(1, batches // LOSSES_AN_EPOCH), frozenset(EARLY)))
    often["EVAL"] = When(1)
    reductions = {
        "weights": ("abs_mean", "std"),
        "biases": ("abs_mean",),
        "gradients": ("abs_mean", "std"),
        "updates": ("abs_mean",),
        "relu_input": ("variance",),
    }
    collections = []
    for name, regex in (BUILT_IN | OURS).items():
        # Of predictions, those of validation are what rules judge.
        frequent = name in ("losses", "labels")
        whole = settings.raw and name != "relu_input"
        kept = () if whole else reductions.get(name, ())
        when = often if frequent else {**seldom, "EVAL": When(1)}
        collections.append(Collection(name, (regex,), when, kept))
    return HookConfig(tuple(collections), workers=settings.workers)


def read_hook_config(path: Path) -> HookConfig:
    """Read a debughookconfig.json.

    Raises:
        ConfigError: no such file, no JSON, or a value that is not what it must be.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"debugger.hook_config={path} cannot be read: {error}. Type debugger.hook_config=null."
        ) from error
    reader = _Reader(path)
    content = reader.mapping(read, "the file")
    hook = reader.mapping(content.get("HookParameters"), "HookParameters")
    base = reader.saves(hook, {})
    reductions = reader.reductions(hook)
    collections = [
        reader.collection(each, base, reductions)
        for each in reader.sequence(
            content.get("CollectionConfigurations"), "CollectionConfigurations"
        )
    ]
    if not any(each.name == "losses" for each in collections):
        collections.append(Collection("losses", (BUILT_IN["losses"],), base, ()))
    if reader.flag(hook, "save_all"):
        collections.append(Collection("all", (".*",), base, reductions))
    if "include_regex" in hook:
        regexes = reader.regexes(hook["include_regex"])
        collections.append(Collection("default", regexes, base, reductions))
    folder = content.get("LocalPath")
    return HookConfig(
        tuple(collections), Path(str(folder)) if folder else None, reader.workers(hook)
    )


@dataclass(frozen=True)
class _Reader:
    path: Path

    def refuse(self, what: str) -> ConfigError:
        return ConfigError(f"debugger.hook_config={self.path}: {what}.")

    def mapping(self, value: Any, name: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(f"{name} is no mapping")
        return value

    def sequence(self, value: Any, name: str) -> Sequence[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.refuse(f"{name} is no list")
        return value

    def collection(
        self, value: Any, base: Mapping[str, When], reductions: tuple[str, ...]
    ) -> Collection:
        entry = self.mapping(value, "a collection")
        name = entry.get("CollectionName")
        if not isinstance(name, str) or not name:
            raise self.refuse("a collection has no CollectionName")
        parameters = self.mapping(entry.get("CollectionParameters"), f"{name}'s parameters")
        regexes = (BUILT_IN | OURS).get(name)
        own = self.regexes(parameters["include_regex"]) if "include_regex" in parameters else ()
        return Collection(
            name,
            (*((regexes,) if regexes else ()), *own),
            self.saves(parameters, base),
            self.reductions(parameters) if "reductions" in parameters else reductions,
        )

    def saves(self, parameters: dict[str, Any], base: Mapping[str, When]) -> dict[str, When]:
        return {mode: self._when(parameters, mode, base.get(mode, When())) for mode in MODES}

    def _when(self, parameters: dict[str, Any], mode: str, base: When) -> When:
        def find(key: str) -> tuple[str, Any] | None:
            for name in (f"{mode.lower()}.{key}", key):
                if name in parameters:
                    return name, parameters[name]
            return None

        interval, steps = find("save_interval"), find("save_steps")
        start, end = find("start_step"), find("end_step")
        return When(
            self._number(*interval, least=1) if interval else base.interval,
            self._steps(*steps) if steps else base.steps,
            self._number(*start) if start else base.start,
            self._number(*end) if end else base.end,
        )

    def _steps(self, name: str, value: Any) -> frozenset[int]:
        return frozenset(self._number(name, each) for each in str(value).split(",") if each.strip())

    def _number(self, name: str, value: Any, least: int = 0) -> int:
        text = str(value).strip()
        if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < least:
            raise self.refuse(f"{name}={value} is no whole number from {least}")
        return int(text)

    def reductions(self, parameters: dict[str, Any]) -> tuple[str, ...]:
        texts = [each.strip() for each in str(parameters.get("reductions", "")).split(",")]
        found = [each.removesuffix("_norm") for each in texts if each]
        for name in found:
            if name not in REDUCTIONS:
                raise self.refuse(
                    f"there is no reduction {name}.{suggestion(name, REDUCTIONS)} "
                    f"There are {', '.join(REDUCTIONS)}"
                )
        return tuple(found)

    def regexes(self, value: Any) -> tuple[str, ...]:
        found = tuple(each.strip() for each in str(value).split(",") if each.strip())
        for regex in found:
            try:
                re.compile(regex)
            except re.error as error:
                raise self.refuse(
                    f"include_regex {regex} is no regular expression: {error}"
                ) from error
        return found

    def flag(self, parameters: dict[str, Any], name: str) -> bool:
        text = str(parameters.get(name, "false")).strip().lower()
        if text not in ("true", "false"):
            raise self.refuse(f"{name}={parameters[name]} is neither true nor false")
        return text == "true"

    def workers(self, parameters: dict[str, Any]) -> str:
        text = str(parameters.get("include_workers", "one"))
        if text not in ("one", "all"):
            raise self.refuse(f"include_workers={text} is neither one nor all")
        return text

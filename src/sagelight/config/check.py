"""What a configuration must satisfy beyond its types. Each refusal is one line that says what to type."""

from __future__ import annotations

import typing
from typing import Any

from sagelight.config.schema import Config
from sagelight.config.setting import AUTO, Limits, hints, holder, lookup, walk
from sagelight.errors import ConfigError
from sagelight.secrets import secret_among

_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list, as [one,two]",
    dict: "a mapping, as {name: value}",
}
# What carries a secret instead of a setting.
_INSTEAD = {
    "mlflow_uri": ", and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "environment": ": a job's environment is read by all who may describe it. Let its role read AWS Secrets Manager",
}


def check(config: Config) -> None:
    """Refuse values out of range and settings that exclude each other.

    Raises:
        ConfigError: naming the first setting that is wrong.
    """
    check_limits(config)
    for rule in (
        _splits,
        _sizes,
        _class_balance,
        _gradual,
        _sharded,
        _objective,
        _debugger,
        _profiler,
    ):
        rule(config)


def check_limits(settings: Any) -> None:
    """Hold every setting of a dataclass instance against its declared limits."""
    for name, field in walk(settings):
        value = lookup(settings, name)
        refuse_secret(name, value)
        limits: Limits = field.metadata["limits"]
        complaint = limits.complaint(value)
        if complaint is None and isinstance(value, str) and _number_or_auto(name, settings):
            complaint = None if value == AUTO else "must be a whole number or auto"
        if complaint:
            raise ConfigError(f"{name}={value}: {complaint}.{_example(field.default, value)}")


def refuse_secret(name: str, value: Any) -> None:
    """Settings are printed, saved, reported and sent to jobs.

    Raises:
        ConfigError: a value that looks like a secret; it is not repeated.
    """
    found = secret_among(value)
    if found:
        raise ConfigError(
            f"{name} holds {found}, and settings travel: they are printed, saved with runs and reports, and sent to "
            f"jobs. Take it out{_INSTEAD.get(name.rpartition('.')[2], '')}."
        )


def type_complaint(typed: str, name: str) -> str:
    """One line for a value of the wrong type."""
    name = holder(Config, name)
    allowed = [typing.get_origin(hint) or hint for hint in hints(Config, name)]
    kinds = [_KINDS[kind] for kind in allowed if kind in _KINDS and kind is not str] or ["text"]
    if type(None) in allowed:
        kinds.append("null")
    if str in allowed and len(allowed) > 1 and kinds[0] != "text":
        kinds.append(AUTO)
    default = lookup(Config(), name)
    return f"{typed}: must be {' or '.join(kinds)}. The default is {name}={_written(default)}."


def _number_or_auto(name: str, settings: Any) -> bool:
    return int in hints(type(settings), name)


def _example(default: Any, value: Any) -> str:
    if default == value or default is None:
        return ""
    return f" The default is {_written(default)}."


def _written(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _splits(config: Config) -> None:
    data = config.data
    if data.validation_fraction + data.test_fraction > 0.8:
        raise ConfigError(
            f"data.validation_fraction={data.validation_fraction} and data.test_fraction="
            f"{data.test_fraction} leave too little to train on. Keep their sum at 0.8 or below."
        )


def _sizes(config: Config) -> None:
    resize, image = config.data.resize_size, config.data.image_size
    if isinstance(resize, int) and resize < image:
        raise ConfigError(
            f"data.resize_size={resize} is below data.image_size={image}: the crop would reach outside "
            f"the photo. Type data.resize_size={image} or data.resize_size=auto."
        )


def _class_balance(config: Config) -> None:
    if config.data.sampler == "balanced" and config.loss.class_weights == "balanced":
        raise ConfigError(
            "data.sampler=balanced and loss.class_weights=balanced correct the same imbalance twice. "
            "Type data.sampler=shuffle or loss.class_weights=none."
        )


def _gradual(config: Config) -> None:
    tune, epochs = config.finetune, config.trainer.max_epochs
    if tune.name == "gradual" and epochs <= tune.epochs_per_stage:
        raise ConfigError(
            f"finetune=gradual with finetune.epochs_per_stage={tune.epochs_per_stage} and "
            f"trainer.max_epochs={epochs} never unfreezes anything. "
            f"Type trainer.max_epochs={tune.epochs_per_stage + 1} or more, or finetune=head."
        )


def _sharded(config: Config) -> None:
    """What needs the whole network in every process, which trainer=fsdp is there to avoid."""
    if config.trainer.strategy != "fsdp":
        return
    for refused, what, instead in (
        (
            config.callbacks.ema_decay > 0,
            "callbacks.ema_decay averages whole weights",
            "callbacks.ema_decay=0",
        ),
        (
            config.debugger.sink == "smdebug",
            "debugger=smdebug reads whole weights",
            "debugger=default",
        ),
        (
            config.trainer.precision == "16-mixed",
            "trainer.precision=16-mixed scales gradients that lie whole",
            "trainer.precision=bf16-mixed",
        ),
    ):
        if refused:
            raise ConfigError(
                f"{what}, and with trainer.strategy=fsdp each process has a part of them. "
                f"Type trainer=ddp, or {instead}."
            )


def _objective(config: Config) -> None:
    metric, direction = config.hpo.metric, config.hpo.direction
    right = natural_direction(metric)
    if direction not in (AUTO, right):
        raise ConfigError(
            f"hpo.direction={direction} would keep the worst epoch by hpo.metric={metric}. "
            f"Type hpo.direction={right}."
        )


def natural_direction(metric: str) -> str:
    """Which way a metric is better."""
    return "minimize" if metric.endswith("loss") else "maximize"


def _debugger(config: Config) -> None:
    # SageMaker knows rules that we do not; a plan looks at those.
    if not config.debugger.cloud:
        from sagelight.debugging.rules.catalogue import build_usual

        build_usual(config.debugger)


def _profiler(config: Config) -> None:
    # numpy comes with the rules, and --help does without.
    from sagelight.profiling.rules.catalogue import build_rules

    build_rules(config.profiler.rules, config.profiler.parameters)

"""The settings of the verbs other than `train`: the same grammar, a smaller schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sagelight.config.check import check_limits
from sagelight.config.compose import parse_value, unresolved
from sagelight.config.groups import GROUPS, conf_dir, group_choices
from sagelight.config.setting import walk
from sagelight.errors import ConfigError, first_line, suggestion

S = TypeVar("S")


def parse_settings(schema: type[S], overrides: Sequence[str], command: str) -> S:
    """Fill a verb's settings from `key=value` words; `data=digits` takes a choice of conf/.

    Args:
        command: how the verb is typed, for the messages.

    Raises:
        ConfigError: unknown key, wrong type, or a value out of range; one line.
    """
    known = [name for name, _ in walk(schema)]
    groups = {name.split(".")[0] for name in known if "." in name}.intersection(GROUPS)
    settings: DictConfig = OmegaConf.structured(schema)
    for text in overrides:
        key, value = parse_value(text)
        if key in groups:
            _merge_choice(settings, key, str(value))
            continue
        if key not in known:
            raise ConfigError(
                f"{command.split()[-1]} has no setting {key}.{suggestion(key, known)} "
                f"`{command} --help` lists them."
            )
        try:
            OmegaConf.update(settings, key, value)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{text}: {first_line(error)}.") from error
    try:
        filled: Any = OmegaConf.to_object(settings)
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(unresolved(error)) from error
    check_limits(filled)
    result: S = filled
    return result


def _merge_choice(settings: DictConfig, group: str, choice: str) -> None:
    if choice not in group_choices(group):
        choices = group_choices(group)
        raise ConfigError(
            f"{group}={choice}: there is no such {group}.{suggestion(choice, choices)} "
            f"Choose one of {', '.join(choices)}."
        )
    settings[group] = OmegaConf.merge(
        settings[group], OmegaConf.load(conf_dir() / group / f"{choice}.yaml")
    )

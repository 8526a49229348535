"""From what a person typed to a complete, typed, checked configuration, by Hydra's own grammar."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sagelight.config.check import check, type_complaint
from sagelight.config.grammar import parse_single
from sagelight.config.groups import GROUPS, conf_dir, group_choices
from sagelight.config.schema import Config
from sagelight.config.setting import AUTO, holds_entries, knows, walk
from sagelight.errors import ConfigError, first_line, suggestion

HELP = "`python launch/local.py train --help` lists every setting."


def compose(overrides: Sequence[str]) -> Config:
    """Compose conf/train.yaml with overrides in Hydra's grammar.

    `experiment=` takes a name in conf/experiment or the path of such a file.

    Raises:
        ConfigError: one line: an unknown key or choice, a wrong type, a value out of range, or
            settings that exclude each other.
    """
    return compose_with_sweep(overrides)[0]


def compose_with_sweep(overrides: Sequence[str]) -> tuple[Config, dict[str, str]]:
    """As `compose`, with the sweep that conf/hpo declares: its settings, and Hydra's sweep text of each."""
    parsed = [_parse(text) for text in overrides]
    _offer_schema()
    with _experiment_files(parsed) as (texts, search_path):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            try:
                composed = hydra_compose("train", [*texts, *search_path], return_hydra_config=True)
            except (HydraException, OmegaConfBaseException) as error:
                raise ConfigError(_one_line(error, overrides)) from error
    choices = composed.hydra.runtime.choices
    sweep = {str(key): str(text) for key, text in (composed.hydra.sweeper.params or {}).items()}
    OmegaConf.set_struct(composed, False)
    del composed["hydra"]
    config = to_config(composed)
    if config.name == AUTO:
        config.name = str(choices["experiment"])
    check(config)
    return config, sweep


def load(path: Path, overrides: Sequence[str]) -> Config:
    """Read the config.yaml that a run left, and change single settings of it.

    The run directory is chosen anew, so that repeating a run does not write into it.
    """
    if not path.is_file():
        raise ConfigError(
            f"--config-from {path}: no such file. A run leaves config.yaml in its directory."
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no settings.")
        loaded = OmegaConf.create(values)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(
            f"--config-from {path} is no configuration: {first_line(error)}"
        ) from error
    typed = {str(override.key_or_group): override for override in map(_parse, overrides)}
    for key, override in typed.items():
        if key in GROUPS:
            raise ConfigError(
                f"{override.input_line}: with --config-from only single settings can be changed, "
                f"such as {key}.KEY=VALUE."
            )
    chosen = {"run_dir": AUTO, "resume": AUTO, **{k: o.value() for k, o in typed.items()}}
    for key, value in chosen.items():
        try:
            OmegaConf.update(loaded, key, value)
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            raise ConfigError(
                f"--config-from {path} is no configuration: {key} cannot be set in it ({first_line(error)})"
            ) from error
    config = to_config(loaded)
    check(config)
    return config


def to_config(values: DictConfig) -> Config:
    """Merge plain values over the schema: unknown keys and wrong types are refused."""
    try:
        names = list(_leaves(OmegaConf.to_container(values, resolve=True)))
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(unresolved(error)) from error
    for name in names:
        if not knows(Config, name):
            raise ConfigError(_unknown(name, {known for known, _ in walk(Config)}))
    try:
        merged = OmegaConf.merge(_schema(), values)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(_one_line(error, [])) from error
    assert isinstance(config, Config)
    return config


def unresolved(error: Exception) -> str:
    """One line for a value whose `${...}` means nothing."""
    where = getattr(error, "full_key", None)
    return (
        f"{where}: {first_line(error)}. ${{KEY}} stands for the value of another setting; "
        "put a backslash before the $ that is meant as such."
    )


def parse_value(text: str) -> tuple[str, Any]:
    """The key and the value of one `key=value`, by Hydra's grammar.

    Raises:
        ConfigError: not an override, a sweep, or a deletion.
    """
    override = parse_single(text)
    return override.key_or_group, override.value()


@cache
def _offer_schema() -> None:
    """Hydra takes it into every composition as the choice `schema` of conf/train.yaml."""
    ConfigStore.instance().store(name="schema", node=_schema())


@cache
def _schema() -> DictConfig:
    """The typed configuration, in which a setting that is a mapping takes new entries; merging copies it."""
    schema: DictConfig = OmegaConf.structured(Config)
    for name, field in walk(Config):
        if holds_entries(field):
            OmegaConf.set_struct(OmegaConf.select(schema, name), False)
    return schema


def _parse(text: str) -> Override:
    override = parse_single(text)
    key = override.key_or_group
    if key in GROUPS:
        _check_choice(text, key, override.value())
    elif not knows(Config, key):
        raise ConfigError(_unknown(key, {name for name, _ in walk(Config)} | set(GROUPS)))
    return override


def _check_choice(text: str, group: str, value: Any) -> None:
    if group == "experiment" and str(value).endswith((".yaml", ".yml")):
        return
    choices = group_choices(group)
    if value not in choices:
        if isinstance(value, dict):
            raise ConfigError(f"{text}: set the entries one by one: {group}.KEY=VALUE.")
        raise ConfigError(
            f"{text}: there is no such {group}.{suggestion(str(value), choices)} "
            f"Choose one of {', '.join(choices)}."
        )


def _unknown(name: str, known: set[str]) -> str:
    last = name.rpartition(".")[2]
    same = sorted(key for key in known if key.endswith(f".{last}"))
    hint = f" Did you mean {' or '.join(same)}?" if same else suggestion(name, known)
    return f"unknown setting {name}.{hint} {HELP}"


def _leaves(values: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix


@contextmanager
def _experiment_files(overrides: list[Override]) -> Iterator[tuple[list[str], list[str]]]:
    """Hydra finds a group's file by name only, so a path is offered to it in a search path of its own."""
    texts = [str(override.input_line) for override in overrides]
    chosen = [
        (position, Path(str(override.value())))
        for position, override in enumerate(overrides)
        if override.key_or_group == "experiment" and "." in str(override.value())
    ]
    if not chosen:
        yield texts, []
        return
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "experiment").mkdir()
        for position, path in chosen:
            if not path.is_file():
                raise ConfigError(f"experiment={path}: no such file.")
            shutil.copy(path, Path(scratch) / "experiment" / f"{path.stem}.yaml")
            texts[position] = f"experiment={path.stem}"
        yield texts, [f"hydra.searchpath=[file://{scratch}]"]


def _one_line(error: Exception, overrides: Sequence[str]) -> str:
    chain = list(_causes(error))
    key = next((each.full_key for each in chain if getattr(each, "full_key", None)), None)
    if not key:
        return first_line(chain[-1])
    own = (text.lstrip("+") for text in overrides)
    typed = next((text for text in own if text.startswith(f"{key}=")), key)
    return type_complaint(typed, key)


def _causes(error: BaseException | None) -> Iterator[Any]:
    met: list[BaseException] = []
    # OmegaConf can make an error its own cause.
    while error is not None and not any(error is each for each in met):
        yield error
        met.append(error)
        error = error.__cause__

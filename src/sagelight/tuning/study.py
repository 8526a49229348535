"""From what a person typed to one configuration and the space that a study varies around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from omegaconf import OmegaConf

from sagelight.config.check import check, natural_direction
from sagelight.config.compose import compose, compose_with_sweep, to_config
from sagelight.config.grammar import parse_override
from sagelight.config.groups import GROUPS
from sagelight.config.schema import Config
from sagelight.config.setting import AUTO
from sagelight.errors import ConfigError
from sagelight.tuning.settings import HpoSettings
from sagelight.tuning.space import Space, read_space

MULTIRUN = ("-m", "--multirun")
PROMISED = {"hpo=true": "hpo=default", "hpo=false": "hpo=none"}


@dataclass(frozen=True)
class Study:
    """A configuration, and what is varied around it; an empty space means one training.

    Attributes:
        fixed: the overrides as typed, without sweeps and flags.
    """

    config: Config
    space: Space
    fixed: tuple[str, ...]

    @property
    def tunes(self) -> bool:
        return bool(self.space.dimensions)

    def trial(self, values: dict[str, str]) -> list[str]:
        """The overrides of one trial: the fixed ones, then a Hydra text for each name of the space."""
        return [*self.fixed, *(f"{name}={text}" for name, text in values.items())]


def maximizes(hpo: HpoSettings) -> bool:
    """Whether a larger `hpo.metric` is better, `auto` resolved."""
    direction = natural_direction(hpo.metric) if hpo.direction == AUTO else hpo.direction
    return direction == "maximize"


def read_study(words: Sequence[str]) -> Study:
    """Read settings, sweeps and `hpo=true`.

    A sweep on the command line needs `-m`, as with Hydra, or `hpo=true`, and is then added to the space that
    conf/hpo declares; a single value takes a setting out of that space.

    Raises:
        ConfigError: one line: settings as in `compose`, or a sweep that cannot be tuned.
    """
    asked = any(word in MULTIRUN for word in words)
    texts = [PROMISED.get(word, word) for word in words if word not in MULTIRUN]
    parsed = [(text, parse_override(text)) for text in texts]
    sweeps = [override for _, override in parsed if override.is_sweep_override()]
    fixed = [text for text, override in parsed if not override.is_sweep_override()]
    asked = asked or any(text.startswith("hpo=") and text != "hpo=none" for text in fixed)
    if sweeps and not asked:
        raise ConfigError(
            f"{sweeps[0].input_line}: this is a list of values to try. Type -m to tune over them, or one value."
        )
    config, declared = compose_with_sweep(fixed)
    if not asked:
        # An experiment file may name a space; it is searched when a person asks for it.
        declared = {}
    set_once = [override.key_or_group for _, override in parsed if not override.is_sweep_override()]
    space = read_space(
        [*(parse_override(f"{name}={text}") for name, text in declared.items()), *sweeps], set_once
    )
    if asked and not space.dimensions:
        raise ConfigError(
            "there is nothing to tune: every setting has one value. Type a sweep, such as "
            "optimizer.lr='tag(log,interval(0.001,0.1))', or hpo=false."
        )
    study = Study(config, space, tuple(fixed))
    _check_samples(study)
    return study


def _check_samples(study: Study) -> None:
    """Hold every bound and every choice against what one training would be refused for."""
    for text in study.space.samples():
        try:
            _check_sample(study, text)
        except ConfigError as error:
            raise ConfigError(f"{text}, which the study may try, is refused: {error}") from error


def _check_sample(study: Study, text: str) -> None:
    override = parse_override(text)
    if override.key_or_group in GROUPS:
        compose([*study.fixed, text])
        return
    values = OmegaConf.create(asdict(study.config))
    OmegaConf.update(values, override.key_or_group, override.value())
    check(to_config(values))

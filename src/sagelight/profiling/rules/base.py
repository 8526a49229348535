"""What a profiler rule is, and what it comes to."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from sagelight.errors import ConfigError
from sagelight.profiling.profile import Profile
from sagelight.rulebook import Verdict as AnyVerdict


@dataclass(frozen=True)
class Finding:
    """Something that costs time: where, the numbers in a sentence, what to type, and what that gains."""

    where: str
    numbers: str
    advice: str
    gain: str

    def __str__(self) -> str:
        return f"{self.where}: {self.numbers}: {self.advice} {self.gain}"


@dataclass
class Judgement:
    """What a rule makes of a profile.

    Attributes:
        points: data points that it has judged.
        findings: what was wrong.
        reason: why it could not judge; that counts only where there is no finding.
        numbers: what it measured, by what and then by name.
    """

    points: int = 0
    findings: list[Finding] = field(default_factory=list)
    reason: str = ""
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class Verdict(AnyVerdict[Finding]):
    """What a rule has come to, and what it measured."""

    numbers: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class ProfilerRule(ABC):
    """A rule over a profile. Its parameters are its dataclass fields, and AWS's (smdebug-rulesconfig 1.0.1).

    Attributes:
        scan_interval_us: how often SageMaker's service looks. Here a rule looks once, at the end; the parameter is
            taken so that parameters written for SageMaker can be typed here.
    """

    scan_interval_us: int = 60_000_000

    means: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse numbers below zero.

        Raises:
            ConfigError: naming the parameter.
        """
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, (int, float)) and value < 0:
                raise ConfigError(
                    f"{type(self).__name__}.{each.name}={value}: must not be below 0. "
                    f"The default is {each.default}."
                )

    @abstractmethod
    def judge(self, profile: Profile) -> Judgement:
        """Look at all that was measured."""


Rules: TypeAlias = list[ProfilerRule]

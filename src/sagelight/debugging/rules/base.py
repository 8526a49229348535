"""What a rule is, and what it comes to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from sagelight import rulebook
from sagelight.debugging.trial import Moment, Trial


@dataclass(frozen=True)
class Finding:
    """Something wrong: in which step, in which tensor, and the numbers in a sentence."""

    moment: Moment
    tensor: str
    numbers: str


@dataclass
class Rule(ABC):
    """A rule over a trial. Its parameters are its dataclass fields; a rule of your own is a subclass.

    `look` is called once for every step of every mode, in the order in which they were written, and may remember
    what it has seen. `last` is called once, when nothing more comes.
    """

    means: ClassVar[str]
    advice: ClassVar[str]

    @abstractmethod
    def look(self, trial: Trial, moment: Moment) -> Look:
        """Look at one step."""

    def last(self, trial: Trial) -> Look:
        """Look at what is complete only now."""
        return Look()

    def lacks(self, trial: Trial) -> str:
        """Why there was nothing to look at, for a trial in which `look` met no data point."""
        return "the trial holds none of the tensors that it looks at"


@dataclass
class Look:
    """What a look met.

    Attributes:
        points: how many values it could judge.
        findings: what was wrong with them.
    """

    points: int = 0
    findings: list[Finding] = field(default_factory=list)

    def judge(self, wrong: bool, moment: Moment, tensor: str, numbers: str) -> None:
        """Count a value, and keep it as a finding where it is wrong."""
        self.points += 1
        if wrong:
            self.findings.append(Finding(moment, tensor, numbers))


Verdict: TypeAlias = rulebook.Verdict[Finding]

"""Reads requirements/locked/*.txt: what is pinned, where, and by which hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ROOT / "requirements" / "locked"


@dataclass(frozen=True)
class Pin:
    """One release of one package, and the SHA-256 of every file that the index has of it."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name in the index's spelling: lower case, dashes."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        """The one version that may be installed."""
        [given] = self.requirement.specifier
        return given.version

    def holds(self, **environment: str) -> bool:
        """Whether its marker wants it: here, or where `environment` says otherwise, as in `python_version="3.12"`."""
        marker = self.requirement.marker
        return marker is None or marker.evaluate({**environment})


def read_pins(path: Path) -> list[Pin]:
    """Every pin of a locked file, in its order."""
    return [_pin(block) for block in blocks(path.read_text(encoding="utf-8"))]


def blocks(text: str) -> list[str]:
    """A locked text cut into its pins, each with the lines of its hashes; comments are left out."""
    lines = [line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#")]
    return [block for block in re.split(r"^(?=\S)", "".join(lines), flags=re.MULTILINE) if block]


def _pin(block: str) -> Pin:
    wanted, *hashes = block.replace("\\\n", " ").split("--hash=sha256:")
    return Pin(Requirement(wanted.strip()), tuple(digest.strip() for digest in hashes))

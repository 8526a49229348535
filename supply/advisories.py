"""Known vulnerabilities from a folder in OSV's format, such as a clone of PyPA's advisory database."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


@dataclass(frozen=True)
class Advisories:
    """Those about Python packages, by package, and when the newest of all was changed."""

    by_package: Mapping[str, list[dict[str, Any]]]
    newest: datetime

    @property
    def number(self) -> int:
        """How many there are; one about two packages counts twice."""
        return sum(map(len, self.by_package.values()))

    def about(self, name: str, version: str) -> list[str]:
        """The names of those that the release is affected by, each with its aliases."""
        found = [a for a in self.by_package.get(name, ()) if _affects(a, name, version)]
        return [" ".join([a["id"], *a.get("aliases", ())]) for a in found]


def read_advisories(folder: Path) -> Advisories:
    """Every YAML and JSON below `folder` that says what it affects.

    Raises:
        ValueError: there is none.
    """
    by_package: dict[str, list[dict[str, Any]]] = {}
    dates = []
    for advisory in _advisories(folder):
        dates.append(datetime.fromisoformat(str(advisory["modified"])))
        for name in {_package(affected) for affected in advisory["affected"]} - {None}:
            by_package.setdefault(str(name), []).append(advisory)
    if not by_package:
        raise ValueError(f"{folder} holds no advisory about a Python package in OSV's format")
    return Advisories(by_package, max(dates))


def _advisories(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".yaml", ".json") and path.is_file():
            text = path.read_text(encoding="utf-8")
            content = json.loads(text) if path.suffix == ".json" else _yaml(text)
            if isinstance(content, dict) and {"id", "modified", "affected"} <= content.keys():
                yield content


def _yaml(text: str) -> Any:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _package(affected: dict[str, Any]) -> str | None:
    package = affected.get("package", {})
    return canonicalize_name(package["name"]) if package.get("ecosystem") == "PyPI" else None


def _affects(advisory: dict[str, Any], name: str, version: str) -> bool:
    if advisory.get("withdrawn"):
        return False
    return any(
        version in affected.get("versions", ()) or _in_ranges(affected, Version(version))
        for affected in advisory["affected"]
        if _package(affected) == name
    )


def _in_ranges(affected: dict[str, Any], version: Version) -> bool:
    """OSV's rule: the last event at or below the version decides; `last_affected` ends after its own version."""
    for given in affected.get("ranges", ()):
        if given.get("type") != "ECOSYSTEM":
            continue
        inside = False
        for kind, at in sorted(_events(given), key=lambda event: event[1]):
            if at < version or (at == version and kind != "last_affected"):
                inside = kind == "introduced"
        if inside:
            return True
    return False


def _events(given: dict[str, Any]) -> Iterator[tuple[str, Version]]:
    for event in given["events"]:
        for kind, text in event.items():
            if kind in ("introduced", "fixed", "last_affected"):
                # A bound that is no version bounds nothing: then the release counts as affected.
                with suppress(InvalidVersion):
                    yield kind, Version(str(text))

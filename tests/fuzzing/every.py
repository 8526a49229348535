"""Every target by its name, ROOM.WAY; a room is a module here, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from fuzzing.target import Target

ROOMS = ("overrides", "images", "bundles", "checkpoints", "trials", "requests", "stores")


def targets_of(room: str) -> dict[str, Target]:
    """The targets of a room, by their whole names."""
    found: dict[str, Target] = import_module(f"fuzzing.{room}").TARGETS
    return found


def target(name: str) -> Target:
    return targets_of(name.partition(".")[0])[name]


def every() -> dict[str, Target]:
    return {name: each for room in ROOMS for name, each in targets_of(room).items()}

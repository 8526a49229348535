"""Every target by its name, ROOM.WAY; a room is a module here, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from fuzzing.target import Target

# How often each is run, beside the others: what takes milliseconds has less of a million than what takes microseconds.
SHARES = {
    "trials.record": 120,
    "trials.event": 100,
    "trials.files": 5,
    "trials.rules": 3,
    "requests.body": 130,
    "requests.headers": 120,
    "requests.answer": 40,
    "requests.connection": 10,
    "bundles.spec": 60,
    "bundles.model": 2,
    "overrides.grammar": 20,
    "overrides.sweep": 12,
    "overrides.verb": 3,
    "overrides.compose": 1,
    "overrides.study": 1,
    "overrides.config_file": 2,
    "overrides.hyperparameters": 80,
    "overrides.hook_config": 60,
    "stores.index": 80,
    "stores.facts": 10,
    "stores.features": 4,
    "stores.resized": 4,
    "images.decode": 30,
    "images.both_ways": 20,
    "images.exif": 10,
    "images.png": 20,
    "images.check": 30,
    "images.served": 20,
    "checkpoints.file": 15,
    "checkpoints.pickle": 10,
    "checkpoints.weights": 5,
    "checkpoints.safetensors": 15,
    "checkpoints.replay": 3,
}


def target(name: str) -> Target:
    found: Target = import_module(f"fuzzing.{name.partition('.')[0]}").TARGETS[name]
    return found


def every() -> dict[str, Target]:
    """All of them, as their rooms have them."""
    rooms = dict.fromkeys(name.partition(".")[0] for name in SHARES)
    return {
        name: found
        for room in rooms
        for name, found in import_module(f"fuzzing.{room}").TARGETS.items()
    }

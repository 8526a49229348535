"""Trials that smdebug, SageMaker or somebody else has left: records, indices, collections, and rules about them."""

from __future__ import annotations

import json
import math
import struct
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from debugging.trials import GRADIENT, LOSS, WEIGHT, healthy, leave_trial
from fuzzing.changes import change_bytes, change_json, joined, parts_of
from fuzzing.target import Target, scratch
from sagelight.debugging.records import DTYPES, Place, decode, encode, sealed, written_at
from sagelight.debugging.rules.catalogue import build_rules
from sagelight.debugging.rules.evaluate import Evaluation, findings
from sagelight.debugging.trial import REDUCTIONS, Trial, reduce

PLACE = Place(3, "TRAIN", 3)


def _record(data: bytes) -> None:
    written_at(data)
    name, values = decode(data)
    assert isinstance(name, str)
    assert values.nbytes <= len(data)


def _event(data: bytes) -> None:
    """A record of this event, whose length and checksums are right."""
    record = sealed(data)
    written_at(record)
    _, values = decode(record)
    for reduction in REDUCTIONS:
        assert reduce(values, reduction).ndim == 0


@cache
def _trial() -> Path:
    rng = np.random.default_rng(0)
    return leave_trial(
        scratch() / "trial",
        [
            healthy(step, rng) | {"labels": np.arange(4), "predictions": np.eye(4)}
            for step in range(2)
        ],
        validate=lambda step: {LOSS: np.float32(1)},
    )


def _files() -> list[Path]:
    """An index, the tensors that it names, and the collections."""
    index, collections = (
        sorted(_trial().glob(f"{n}/*/*.json"))[0] for n in ("index", "collections")
    )
    return [
        index,
        _trial() / json.loads(index.read_bytes())["meta"]["event_file_name"],
        collections,
    ]


@cache
def _originals() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in _files())


def _folder(data: bytes) -> None:
    """Everything that can be asked of a trial."""
    paths, contents = _files_once(), parts_of(data, 3)
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    trial = Trial.open(_trial())
    for moment in trial.moments():
        trial.seconds(moment)
        for name in trial.written(moment):
            trial.kept(name, moment)
            trial.value(name, moment.mode, moment.step, "abs_mean")
    for name in trial.names():
        for mode in ("TRAIN", "EVAL"):
            list(trial.series(name, mode))
    for collection in trial.collections:
        trial.names(collection=collection)
    assert all("\n" not in sentence for sentence in trial.damaged)


@cache
def _files_once() -> list[Path]:
    _originals()
    return _files()


def _rules(data: bytes) -> None:
    """Every rule about tensors of any type, shape and value, by the names that rules look for."""
    [index, events, _] = _files_once()
    records = [sealed(event) for event in data.split(b"\n=====\n")[: len(NAMES)]]
    entries, at = [], 0
    for name, record in zip(NAMES, records, strict=False):
        entries.append({"tensorname": name, "start_idx": at, "length": len(record)})
        at += len(record)
    original = json.loads(_originals()[0])
    events.write_bytes(b"".join(records))
    index.write_text(json.dumps(original | {"tensor_payload": entries}))
    with np.errstate(all="ignore"):
        evaluation = Evaluation(Trial.open(_trial()), build_rules([], {}))
        evaluation.end()
    json.dumps(findings(evaluation))


NAMES = (LOSS, WEIGHT, GRADIENT, "labels", "predictions")


def _events() -> list[bytes]:
    rng = np.random.default_rng(1)
    kinds = [rng.normal(0, 9, (2, 3)).astype(dtype) for dtype in sorted(DTYPES)]
    kinds += [np.float32(math.nan), np.zeros((0, 4)), np.full((2, 2), np.inf), np.arange(5)]
    return [_unsealed(encode("loss", values, PLACE)) for values in kinds]


def _unsealed(record: bytes) -> bytes:
    (length,) = struct.unpack("<Q", record[:8])
    return record[12 : 12 + length]


def _change_some(random: Random, data: bytes) -> bytes:
    """Another tensor in place of one, or other bytes in one."""
    events = data.split(b"\n=====\n")
    place = random.randrange(len(events))
    other = random.choice(_events())
    events[place] = other if random.random() < 0.5 else change_bytes(random, events[place])
    return joined(*events)


def _trial_seeds() -> list[bytes]:
    return [joined(*_originals()), joined(_originals()[0], b"", b"{}")]


def _rule_seeds() -> list[bytes]:
    healthy_step = healthy(0, np.random.default_rng(0))
    values = [*healthy_step.values(), np.arange(4), np.eye(4)]
    return [joined(*(_unsealed(encode("x", np.asarray(each), PLACE)) for each in values))]


TARGETS = {
    "trials.record": Target(
        _record, lambda: [sealed(event) for event in _events()], most_bytes=1024
    ),
    "trials.event": Target(_event, _events, most_bytes=1024),
    "trials.files": Target(_folder, _trial_seeds, change=change_json),
    "trials.rules": Target(_rules, _rule_seeds, change=_change_some),
}

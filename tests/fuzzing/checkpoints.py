"""Checkpoints and weights: archives of torch's, pickles in them, safetensors."""

from __future__ import annotations

import io
import struct
import zipfile
from functools import cache
from random import Random

import torch
from safetensors.torch import save

from fuzzing.changes import change_bytes, change_json, joined, parts_of
from fuzzing.target import Target, written
from sagelight.debugging.replaying import replay
from sagelight.models.backbones import Backbone, build_backbone
from sagelight.models.weights import load_weights
from sagelight.training.checkpoints import read_checkpoint

BACKBONE = "squeezenet1_1"


def _archive(pickled: bytes) -> bytes:
    """torch's own archive of a checkpoint, with another pickle in it and right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_saved())) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            mine = entry.filename.endswith("data.pkl")
            new.writestr(entry.filename, pickled if mine else old.read(entry))
    return buffer.getvalue()


@cache
def _saved() -> bytes:
    content = {
        "state_dict": {"network.head.weight": torch.arange(6.0).reshape(2, 3)},
        "epoch": 3,
        "loops": {"fit_loop": {"progress": [1, 2.5, None, True, "x"]}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": []}],
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _pickle_of(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        [name] = [each for each in archive.namelist() if each.endswith("data.pkl")]
        return archive.read(name)


def _read(content: bytes) -> None:
    loaded = read_checkpoint(written("fuzzed.ckpt", content))
    assert "state_dict" in loaded


@cache
def _backbone() -> Backbone:
    return build_backbone(BACKBONE, 32, pretrained=False)


def _weights(name: str, content: bytes) -> None:
    load_weights(_backbone(), BACKBONE, str(written(name, content)), 32)


def _tensors(data: bytes) -> None:
    """A .safetensors file of this header, whose length is right, and these bytes."""
    header, content = parts_of(data, 2)
    _weights("fuzzed.safetensors", struct.pack("<Q", len(header)) + header + content)


def _tensor_seeds() -> list[bytes]:
    content = save({"features.0.bias": torch.zeros(64), "other": torch.zeros(2, 3)})
    size = struct.unpack("<Q", content[:8])[0]
    return [joined(content[8 : 8 + size].strip(), content[8 + size :])]


# The opcodes that protocol 2 has, by which an unpickler is led.
OPCODES = b"(.012FIJKLMNPQRSTUVXabcdehijloqrstu}]\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b"
GLOBALS = (b"cos\nsystem\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n", b"c\n\n")


def _change_pickle(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, 3)):
        at = random.randint(0, len(changed))
        how = random.random()
        if how < 0.4 and changed:
            changed[at - 1] = random.choice(OPCODES)
        elif how < 0.6:
            changed[at:at] = random.choice(GLOBALS)
        elif how < 0.8:
            changed[at:at] = bytes([random.choice(OPCODES)]) + random.randbytes(4)
        else:
            changed = bytearray(change_bytes(random, bytes(changed)))
    return bytes(changed)


TARGETS = {
    "checkpoints.file": Target(_read, lambda: [_saved()]),
    "checkpoints.pickle": Target(
        lambda data: _read(_archive(data)),
        lambda: [_pickle_of(_saved())],
        change=_change_pickle,
    ),
    "checkpoints.weights": Target(
        lambda data: _weights("fuzzed.pth", _archive(data)),
        lambda: [_pickle_of(_saved())],
        change=_change_pickle,
    ),
    "checkpoints.safetensors": Target(_tensors, _tensor_seeds, change=change_json),
    "checkpoints.replay": Target(
        lambda data: replay(written("replay.pt", _archive(data))),
        lambda: [_pickle_of(_saved())],
        change=_change_pickle,
    ),
}

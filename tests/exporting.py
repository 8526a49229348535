"""Exporting a network is most of a tiny training; the same network with other weights need not be traced again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

# By architecture: model.onnx as the exporter left it.
_traced: dict[object, Any] = {}


@contextmanager
def traced_once() -> Iterator[None]:
    """Within, trainings export each architecture once in this process; later ones put their weights into that graph.

    Whether it answers as the trained network does, `finish` proves every time. The first training of a process, which
    imports all this, and what is started as a process of its own, export as ever.
    """
    finish = sys.modules.get("sagelight.training.finish")
    if finish is None:
        yield
        return
    with mock.patch.object(finish, "write_model", _write_model):
        yield


def _write_model(network: Any, image_size: int, folder: Path) -> None:
    from safetensors.torch import save_file

    from sagelight.bundle.export import write_model

    key = (image_size, repr(network), network.mean.numpy().tobytes(), network.std.numpy().tobytes())
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    known = _traced.get(key)
    if known is None:
        write_model(network, image_size, folder)
        _remember(key, state, folder / "model.onnx")
        return
    save_file(state, folder / "model.safetensors")
    _with_weights(known, state, folder / "model.onnx")


def _remember(key: object, state: dict[str, Any], path: Path) -> None:
    """Only where each weight is in the graph as it is in the network, not folded into another or shared with it."""
    import onnx

    model = onnx.load(path)
    found = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    alike = all(
        np.array_equal(found.pop(f"network.{name}", np.nan), tensor.numpy())
        for name, tensor in state.items()
    )
    others = [name for name, array in found.items() if array.dtype.kind == "f" and array.size > 1]
    if alike and set(others) <= {"network.mean", "network.std"}:
        _traced[key] = model


def _with_weights(known: Any, state: dict[str, Any], path: Path) -> None:
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(known)
    for place in model.graph.initializer:
        tensor = state.get(place.name.removeprefix("network."))
        if tensor is not None:
            place.CopyFrom(onnx.numpy_helper.from_array(tensor.numpy(), place.name))
    onnx.save(model, path)

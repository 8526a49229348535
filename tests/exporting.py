"""Exporting a network is most of a tiny training; the same network with other weights need not be traced again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

# By architecture: model.onnx as the exporter left it, and the weights that stand in it for others like them.
_traced: dict[object, tuple[Any, dict[str, str]]] = {}

_PREFIX = "network."
_NORMALISATION = {"network.mean", "network.std"}


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
    model, twins = _traced.get(key, (None, {}))
    if model is None or not all(_equal(state[a], state[b]) for a, b in twins.items()):
        write_model(network, image_size, folder)
        _remember(key, state, folder / "model.onnx")
        return
    save_file(state, folder / "model.safetensors")
    _with_weights(model, state, folder / "model.onnx")


def _remember(key: object, state: dict[str, Any], path: Path) -> None:
    """Only where each weight is in the graph as it is in the network, by its name or as another's twin, not folded."""
    import onnx

    model, twins = onnx.load(path), {}
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    found = [name for name, tensor in state.items() if _equal(arrays.get(_PREFIX + name), tensor)]
    for name in state.keys() - set(found):
        # The exporter keeps one of several equal tensors, such as biases that are still zero.
        twin = next((each for each in found if _equal(state[each], state[name])), None)
        if twin is None:
            return
        twins[name] = twin
    others = arrays.keys() - {_PREFIX + name for name in found}
    if {n for n in others if arrays[n].dtype.kind == "f" and arrays[n].size > 1} <= _NORMALISATION:
        _traced[key] = model, twins


def _equal(one: Any, other: Any) -> bool:
    return one is not None and np.array_equal(np.asarray(one), np.asarray(other))


def _with_weights(known: Any, state: dict[str, Any], path: Path) -> None:
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(known)
    for place in model.graph.initializer:
        tensor = state.get(place.name.removeprefix(_PREFIX))
        if tensor is not None:
            place.CopyFrom(onnx.numpy_helper.from_array(tensor.numpy(), place.name))
    onnx.save(model, path)

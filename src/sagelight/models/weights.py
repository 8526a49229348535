"""Pretrained weights into a backbone: torchvision's own, or a local file, never by unpickling objects."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import get_model_weights
from torchvision.models.vision_transformer import interpolate_embeddings

from sagelight.errors import WeightsError, first_line
from sagelight.models.backbones import Backbone

State = dict[str, Tensor]


def load_weights(backbone: Backbone, name: str, weights: str, image_size: int) -> None:
    """Fill a backbone with pretrained weights, in place.

    Args:
        name: torchvision's name of the network.
        weights: `default` (torchvision's newest), `none`, or the path of a state dict: .safetensors, or
            .pth/.pt read with `weights_only=True`. What belongs to the last layer is left out; a
            `model.safetensors` of one of our bundles is read by its backbone.
        image_size: side in pixels of the input; position embeddings are interpolated to it.

    Raises:
        WeightsError: no such file, not a state dict, weights of another network (the keys are named),
            or torchvision's weights are neither cached nor reachable.
    """
    if weights == "none":
        return
    state = _file_state(cached_default_weights(name) if weights == "default" else Path(weights))
    state = _backbone_part(state, backbone)
    if name.startswith("vit_"):
        state = _fit_positions(state, backbone, image_size)
    _check_fit(state, backbone, name, weights)
    backbone.module.load_state_dict(state)


def cached_default_weights(name: str) -> Path:
    """The file of torchvision's newest weights of a network; downloaded, and its hash checked, when it is not there.

    Raises:
        WeightsError: neither on this machine nor reachable.
    """
    newest = get_model_weights(name).DEFAULT
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(newest.url).name
    if not path.is_file():
        _download_default(newest, path)
    return path


def _download_default(newest: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name ends with the beginning of the hash. torch.hub's own loader would unpickle whatever it finds there.
        digest = path.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(newest.url, str(path), digest, progress=False)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"model.weights=default: torchvision's weights {newest} are not on this machine and could not "
            f"be downloaded ({error}). Put {path.name} at {path}, or type model.weights=PATH of a state "
            "dict, or model.weights=none to start from random weights."
        ) from error


def _file_state(path: Path) -> State:
    if not path.is_file():
        raise WeightsError(
            f"model.weights={path}: no such file. Type model.weights=default, none, or the path of a "
            ".safetensors or .pth file."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # torch warns of an unusual pickle, then refuses it; the refusal is enough.
            warnings.simplefilter("ignore", UserWarning)
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged pickle can raise anything.
        raise WeightsError(
            f"model.weights={path} cannot be read as a state dict: {first_line(error)} "
            "Only tensors are loaded, never pickled objects: save model.state_dict()."
        ) from error
    loaded = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(
            f"model.weights={path} holds no state dict of tensors. Save model.state_dict() and type its path."
        )
    return loaded


def _backbone_part(state: State, backbone: Backbone) -> State:
    for prefix in ("network.backbone.", "backbone."):
        if any(key.startswith(prefix) for key in state):
            state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    own = backbone.module.state_dict()
    return {k: v for k, v in state.items() if k in own or not k.startswith(backbone.dropped)}


def _fit_positions(state: State, backbone: Backbone, image_size: int) -> State:
    own = backbone.module.state_dict()["encoder.pos_embedding"]
    given = state.get("encoder.pos_embedding")
    if given is None or given.shape == own.shape or given.shape[2:] != own.shape[2:]:
        return state
    patch = int(backbone.module.patch_size)  # type: ignore[arg-type]
    fitted: State = interpolate_embeddings(image_size, patch, dict(state))
    return fitted


def _check_fit(state: State, backbone: Backbone, name: str, weights: str) -> None:
    own = backbone.module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    reshaped = [
        f"{key} has shape {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    complaints = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", reshaped),
        )
        if keys
    ]
    if complaints:
        raise WeightsError(
            f"model.weights={weights} belongs to another network than model.backbone={name}: keys "
            f"{'; '.join(complaints)}. Type the model.backbone that these weights are of."
        )
    for key in own:
        state.setdefault(key, own[key])

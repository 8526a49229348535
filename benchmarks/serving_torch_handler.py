"""What people put under TorchServe: the same network in PyTorch, as `code/inference.py` for AWS's toolkit.

Photos come in and answers go out as from the bundle's own code; between them PyTorch computes what ONNX Runtime does there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import bundle_inference

from sagelight.models.network import Network
from sagelight.models.settings import ModelSettings

input_fn, output_fn = bundle_inference.input_fn, bundle_inference.output_fn


def model_fn(model_dir: str) -> tuple[Any, list[str], Network]:
    spec = json.loads((Path(model_dir) / "bundle.json").read_text(encoding="utf-8"))
    preprocessing = bundle_inference.Preprocessing.from_dict(spec["preprocessing"])
    # TorchServe starts a process a core.
    torch.set_num_threads(1)
    settings = ModelSettings(backbone=spec["backbone"], weights="none")
    network = Network(
        settings,
        len(spec["labels"]),
        preprocessing.image_size,
        preprocessing.mean,
        preprocessing.std,
    )
    network.load_state_dict(load_file(Path(model_dir) / "model.safetensors"))
    return preprocessing, spec["labels"], network.eval()


def predict_fn(data: Any, model: tuple[Any, list[str], Network]) -> dict[str, Any]:
    preprocessing, labels, network = model
    with torch.inference_mode():
        scores = network(torch.from_numpy(preprocessing(data)[None]))
        [row] = scores.softmax(dim=1).numpy()
    return bundle_inference.answer(labels, row, bundle_inference.TOP_K)

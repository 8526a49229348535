"""The same bundle behind LitServe, as its guide has it: batches of 8, one process a core.

python -m venv runs/litserve
runs/litserve/bin/python -m pip install litserve==0.2.19 numpy onnxruntime pillow -c requirements/constraints.txt
runs/litserve/bin/python benchmarks/serving_litserve.py BUNDLE PORT
"""

# No `from __future__ import annotations`: LitServe reads the annotation of decode_request itself.
import json
import os
import sys
from typing import Annotated, Any

import litserve
import numpy as np
from fastapi import Body, Response

BUNDLE = sys.argv[1]
sys.path.insert(0, f"{BUNDLE}/code")
import inference  # noqa: E402

JPEG = "image/jpeg"


class Photos(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = inference.model_fn(BUNDLE)

    def decode_request(self, request: Annotated[bytes, Body(media_type=JPEG)]) -> np.ndarray:
        return self.model.preprocessing(inference.input_fn(request, JPEG))

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        return self.model.session.run(["probabilities"], {"images": pixels})[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> Response:
        answer = inference.answer(self.model.labels, output, inference.TOP_K)
        return Response(json.dumps(answer), media_type=inference.JSON)


def main() -> None:
    api: Any = Photos(max_batch_size=8, batch_timeout=0.005, api_path="/invocations")
    cores = len(os.sched_getaffinity(0))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=cores)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)


if __name__ == "__main__":
    main()

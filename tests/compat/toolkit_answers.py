"""Runs where AWS's toolkits are installed: their handler, loaded by TorchServe's loader, answers requests over a bundle.

python toolkit_answers.py BUNDLE REQUESTS.json ANSWERS.json

A request is {"headers": {...}, "name": "body", "body": base64}, an answer {"status", "phrase", "type", "body"}. Only
TorchServe's Java half and the sockets between the halves are left out.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import sagemaker_inference
from sagemaker_pytorch_serving_container import handler_service
from ts.model_loader import TsModelLoader
from ts.service import Service


def main() -> None:
    bundle, requests, answers = map(Path, sys.argv[1:])
    service = load(bundle)
    read = [answer(service, request) for request in json.loads(requests.read_text())]
    answers.write_text(json.dumps(read))
    print(sagemaker_inference.__file__)


def load(bundle: Path) -> Service:
    """As a process of TorchServe does: the toolkit and TorchServe's Java half lead Python to these two folders."""
    handler = Path(handler_service.__file__)
    sys.path[:0] = [str(bundle / "code"), str(handler.parent)]
    return TsModelLoader().load("model", str(bundle), f"{handler}:handle", batch_size=1)


def answer(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    [processor], inputs, ids = Service.retrieve_data_for_inference([_as_sent(request)])
    context = service.context
    context.request_ids, context.request_processor = ids, [processor]
    [body] = service._entry_point(inputs, context)
    status, phrase = context.get_response_status(0)
    kind = context.get_response_content_type(0)
    return {"status": status, "phrase": phrase, "type": kind, "body": body}


def _as_sent(request: dict[str, Any]) -> dict[str, Any]:
    """What TorchServe's Java half sends to its process, parsed: a body is one parameter of that name."""
    headers = request["headers"]
    parameter = {
        "name": request["name"],
        "value": bytearray(base64.b64decode(request["body"])),
        "contentType": headers.get("Content-Type", ""),
    }
    lines = [{"name": k.encode(), "value": v.encode()} for k, v in headers.items()]
    return {"requestId": b"1", "parameters": [parameter], "headers": lines}


if __name__ == "__main__":
    main()

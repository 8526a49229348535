"""TorchServe under AWS's PyTorch inference toolkit, started as its images start it; runs in .venv-toolkits.

    SAGEMAKER_BASE_DIR=DIR SAGEMAKER_BIND_TO_PORT=PORT TMPDIR=DIR .venv-toolkits/bin/python benchmarks/serving_torchserve.py

Three things differ from the image: the configuration is not written to /etc, nothing listens beyond the loopback, and
the ports that nobody asks are any free ones.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from sagemaker_pytorch_serving_container import handler_service, torchserve

OTHER_PORTS = ("grpc_inference_port", "grpc_management_port")


def main() -> None:
    torchserve.TS_CONFIG_FILE = str(Path(os.environ["TMPDIR"]) / "ts.properties")
    generate = torchserve._generate_ts_config_properties

    def on_loopback(handler: str) -> str:
        ports = [f"{name}={_free_port()}" for name in OTHER_PORTS]
        metrics = f"metrics_address=http://127.0.0.1:{_free_port()}"
        return "\n".join([generate(handler).replace("0.0.0.0", "127.0.0.1"), metrics, *ports, ""])

    torchserve._generate_ts_config_properties = on_loopback
    torchserve.start_torchserve(handler_service=handler_service.__file__)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()

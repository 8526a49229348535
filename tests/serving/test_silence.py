"""ONNX Runtime would keep an identifier of the machine and report to its maker: not from here, nor from an endpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = {
    "predictor": """
from sagelight.serving.predictor import Predictor
session = Predictor.load(BUNDLE)._session
""",
    "endpoint": """
import sys
sys.path.insert(0, BUNDLE + "/code")
import inference
session = inference.model_fn(BUNDLE).session
""",
}
RUN = """
import numpy
session.run(None, {"images": numpy.zeros((1, 3, 16, 16), "uint8")})
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_kept_for_a_report(bundle: Path, tmp_path: Path, name: str) -> None:
    unwanted = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    plain = {key: value for key, value in os.environ.items() if key not in unwanted}
    program = f"BUNDLE = {str(bundle)!r}{PROGRAMS[name]}{RUN}"
    command = [sys.executable, "-c", program]
    subprocess.run(command, env={**plain, "HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.iterdir())

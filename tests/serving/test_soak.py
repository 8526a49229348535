"""An hour's load in a minute: benchmarks/serving.py soak, over a bundle that answers as fast as photos can be decoded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SERVING = Path(__file__).resolve().parents[2] / "benchmarks" / "serving.py"
# A request a second, for an hour.
LEAST = 3600


@pytest.mark.slow
def test_a_minute_of_good_and_bad_requests_leaves_no_trace(bundle: Path, photos: Path) -> None:
    words = ["soak", str(bundle), f"data.root={photos}", "minutes=1", "output=soak.json"]
    done = subprocess.run([sys.executable, str(SERVING), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(Path("soak.json").read_text())
    assert found["wrong"] == {}
    assert found["requests"] >= LEAST

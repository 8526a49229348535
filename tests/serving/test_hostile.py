"""Two hundred hostile requests; benchmarks/hostile.py sends twelve thousand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.attacks import FAMILIES, attacks
from serving.servers import GUARD
from serving.siege import besiege


def test_hostile_requests_are_refused_with_a_reason(bundle: Path, tmp_path: Path) -> None:
    requests = attacks(200, seed=1)
    assert {family for family, _ in requests} == set(FAMILIES)
    siege = besiege(bundle, requests, tmp_path / "forbidden.txt")
    assert siege.violations == []
    assert len(siege.outcomes) == 200
    assert siege.good >= 3


@pytest.mark.parametrize(
    "deed",
    [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('localhost', 80)",
        "os.system('true')",
        "open('owned', 'w')",
        "pickle.loads(pickle.dumps(os.system))",
    ],
)
def test_the_guard_notices(deed: str, tmp_path: Path) -> None:
    record = tmp_path / "forbidden.txt"
    program = f"import os, pickle, socket; socket.create_server(('127.0.0.1', 0)); {deed}"
    environment = os.environ | {"PYTHONPATH": str(GUARD), "SAGELIGHT_GUARD": str(record)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "RuntimeError: forbidden: " in done.stderr
    assert record.read_text()
    assert not Path("owned").exists()

from __future__ import annotations

from pathlib import Path

import pytest

from reporting.made import Made, make_run


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_run(tmp_path)

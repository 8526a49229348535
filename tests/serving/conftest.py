from __future__ import annotations

from pathlib import Path

import pytest

from bundles import make_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells blue, green and red apart; not to be changed."""
    return make_bundle(tmp_path_factory.mktemp("serving") / "bundle")

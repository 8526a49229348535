from __future__ import annotations

from pathlib import Path

import pytest

from images import make_folder

CLASSES = {"blue": 14, "green": 12, "red": 10}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in an empty folder, so runs/ and data/ never land in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 small photos of three learnable classes, without split folders."""
    return make_folder(tmp_path_factory.mktemp("photos"), {"": CLASSES})

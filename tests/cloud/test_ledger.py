from __future__ import annotations

from pathlib import Path

import pytest

from sagelight.cloud.ledger import note_sent, sent_on


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_went_to_amazon_is_remembered() -> None:
    assert sent_on("s3://b/data") is None
    note_sent("s3://b/data", "https://s3.eu-west-1.amazonaws.com")
    note_sent("s3://b/weights", "https://s3.eu-west-1.amazonaws.com")
    assert sent_on("s3://b/data") == sent_on("s3://b/weights")
    assert sent_on("s3://b/other") is None


def test_a_rehearsal_is_not() -> None:
    note_sent("s3://b/data", "http://127.0.0.1:5000")
    assert sent_on("s3://b/data") is None


def test_a_damaged_ledger_knows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "sagelight" / "uploads.json"
    path.parent.mkdir(parents=True)
    path.write_text("[half")
    assert sent_on("s3://b/data") is None
    note_sent("s3://b/data", "https://s3.amazonaws.com")
    assert sent_on("s3://b/data") is not None

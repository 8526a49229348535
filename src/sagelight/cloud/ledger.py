"""What this machine has uploaded to AWS, and when: for plans, which may not ask; uploads look for themselves."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlparse

from sagelight.files import write_json

AMAZON = (".amazonaws.com", ".amazonaws.com.cn")


def sent_on(uri: str) -> str | None:
    """The date on which `uri` was uploaded whole from here; None when it was not, or nobody knows."""
    return _read().get(uri)


def note_sent(uri: str, endpoint: str) -> None:
    """Remember that `uri` lies in its bucket; what a rehearsal keeps is gone soon and is not remembered."""
    host = urlparse(endpoint).hostname or ""
    if not host.endswith(AMAZON):
        return
    known = _read() | {uri: datetime.now(UTC).date().isoformat()}
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, known)


def _path() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sagelight" / "uploads.json"


def _read() -> dict[str, str]:
    try:
        loaded = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}

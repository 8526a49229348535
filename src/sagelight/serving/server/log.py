"""One line of JSON for each thing that happens, on standard output; never what a photo shows."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def log(event: str, **facts: Any) -> None:
    """Write a line; a reader who has gone ends no server."""
    now = time.time()
    written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    line = {"time": f"{written}.{int(now % 1 * 1000):03d}Z", "event": event, **facts}
    try:
        sys.stdout.write(json.dumps(line, ensure_ascii=True) + "\n")
        sys.stdout.flush()
    except OSError:
        pass

"""Is what this Python imports what a locked file pins? PYTHON supply/installed.py LOCKED"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from locked import Pin, read_pins


def main() -> None:
    """Name every pin that is not installed, or not in its version."""
    pins = [pin for pin in read_pins(Path(sys.argv[1])) if pin.holds()]
    wrong = [f"{p.requirement}: {_installed(p)}" for p in pins if _installed(p) != p.version]
    if wrong:
        sys.exit(f"error: not what {sys.argv[1]} pins:\n" + "\n".join(wrong))
    print(f"{len(pins)} packages as {sys.argv[1]} pins them")


def _installed(pin: Pin) -> str:
    try:
        return version(pin.name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()

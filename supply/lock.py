"""Pins and hashes for all that is ever installed: requirements/*.txt -> requirements/locked/*.txt. `make lock` runs it.

    python supply/lock.py upgrade=yes

asks for the newest releases; without the word, what is pinned stays where it still fits. Every platform and both Pythons
are resolved at once, and every file of a release is listed, so that the same lines hold on Linux, macOS and ARM.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from locked import LOCKED, ROOT, blocks, read_pins

CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
WITHIN = ("--constraint", str(CONSTRAINTS))
WITHOUT_TORCH = (*WITHIN, "--override", "requirements/in-image.txt")


@dataclass(frozen=True)
class Lock:
    """A locked file: what it is made from, and how."""

    name: str
    sources: tuple[str, ...]
    options: tuple[str, ...] = ()


LOCKS = (
    Lock("dev", ("requirements/dev.txt",)),
    Lock("build", ("requirements/build.txt",), WITHIN),
    Lock("image", ("docker/requirements.txt",), WITHIN),
    Lock("job", ("requirements/train.txt",), WITHOUT_TORCH),
    Lock("study", ("requirements/train.txt", "requirements/hpo.txt"), WITHOUT_TORCH),
    Lock("lowest", ("pyproject.toml",), ("--all-extras", "--resolution", "lowest-direct")),
    Lock("tools", ("requirements/tools.txt",)),
    # As their authors' ranges would not let them: see the reasons in each.
    *(
        Lock(n, (f"requirements/{n}.txt",), ("--no-deps",))
        for n in ("smdebug", "toolkits", "peers", "fuzz", "mutants")
    ),
)


def main() -> None:
    """Lock everything, dev first: the others keep to its versions."""
    upgrade = ("--upgrade",) if sys.argv[1:] == ["upgrade=yes"] else ()
    LOCKED.mkdir(exist_ok=True)
    for lock in LOCKS:
        path = LOCKED / f"{lock.name}.txt"
        _compile(lock, path, upgrade)
        if lock.name == "dev":
            _constrain(path)
        print(f"{path.relative_to(ROOT)}: {len(read_pins(path))} packages")


def _compile(lock: Lock, path: Path, upgrade: tuple[str, ...]) -> None:
    """What uv resolves, under a header of our own: uv's names paths of this machine."""
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", *lock.sources),
            *("--output-file", str(path)),
            *("--universal", "--python-version", "3.11", "--generate-hashes"),
            *("--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"),
            *lock.options,
            *upgrade,
        ],
        cwd=ROOT,
        check=True,
    )
    title = f"# Made from {' and '.join(lock.sources)} by `make lock`.\n"
    path.write_text(title + "".join(blocks(path.read_text())))


def _constrain(path: Path) -> None:
    pins = "".join(f"{pin.requirement}\n" for pin in read_pins(path))
    title = (
        "# Every version of requirements/locked/dev.txt, without its hashes. Made by `make lock`.\n"
    )
    CONSTRAINTS.write_text(title + pins)


if __name__ == "__main__":
    main()

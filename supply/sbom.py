"""What a Python has installed, as CycloneDX JSON: python supply/sbom.py PYTHON LOCKED SBOM. The image's build runs it.

What is installed must be what LOCKED pins for that Python, with sagelight and what the base image brings: otherwise
nothing is written, and the build ends. The same installation gives the same bytes: no time, no serial number, no paths.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from locked import read_pins

# Python's own images and environments come with them.
OF_THE_BASE = {"pip", "setuptools", "wheel"}
Releases = set[tuple[str, str]]


def main() -> None:
    """Write the SBOM, or say what is installed and not pinned, or the other way round."""
    python, locked, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    bom = describe(python)
    problems = differences(releases(bom), pinned(python, locked))
    if problems:
        sys.exit(f"error: {python} is not what {locked} pins:\n" + "\n".join(problems))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{target}: {len(bom['components'])} components")


def describe(python: str) -> dict[str, Any]:
    """The SBOM of an environment."""
    options = ["--output-reproducible", "--output-format", "JSON"]
    command = [sys.executable, "-m", "cyclonedx_py", "environment", *options, python]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    bom: dict[str, Any] = json.loads(done.stdout)
    return portable(bom)


def portable(bom: dict[str, Any]) -> dict[str, Any]:
    """An SBOM without the places of files on this machine, from which sagelight's own wheel came."""
    for component in bom["components"]:
        references = component.pop("externalReferences", [])
        kept = [r for r in references if not r["url"].startswith("file:")]
        component |= {"externalReferences": kept} if kept else {}
    return bom


def releases(bom: dict[str, Any]) -> Releases:
    """Every component's name, as an index spells it, and version."""
    return {(canonicalize_name(c["name"]), c["version"]) for c in bom["components"]}


def pinned(python: str, locked: Path) -> Releases:
    """What a locked file asks for where that Python runs."""
    code = "import json; from packaging.markers import default_environment as e; print(json.dumps(e()))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    where = json.loads(done.stdout)
    return {(pin.name, pin.version) for pin in read_pins(locked) if pin.holds(**where)}


def differences(installed: Releases, wanted: Releases) -> list[str]:
    """A line for each release that is only in one of the two."""
    more = {r for r in installed - wanted if r[0] not in OF_THE_BASE | {"sagelight"}}
    return [
        *(f"{name} {version} is installed and not pinned" for name, version in sorted(more)),
        *(
            f"{name} {version} is pinned and not installed"
            for name, version in sorted(wanted - installed)
        ),
    ]


if __name__ == "__main__":
    main()

"""Is a vulnerability known of anything that is pinned? `make audit` runs it.

    python supply/audit.py
    python supply/audit.py advisories=FOLDER

asks PyPI or else OSV, by pip-audit, or a folder of advisories in OSV's format that is no older than thirty days. Ends
with 0 when every pin was looked up and nothing is known, with 1 when something is, and with 3 when it could not look.

pip-audit alone ends with 0 and "No known vulnerabilities found" where an index answers 404 about everything. So a
package that was skipped was not looked up, and a release whose vulnerability is known is asked about first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement

from advisories import read_advisories
from locked import LOCKED, Pin, read_pins

SERVICES = ("pypi", "osv")
OLDEST = timedelta(days=30)
# CVE-2024-22195: whoever does not know it knows nothing.
CANARY = Pin(
    Requirement("jinja2==3.1.2"),
    ("31351a702a408a9e7595a8fc6150fc3f43bb6bf7e319770cbc0db9df9437e852",),
)
FOUND, UNANSWERED = 1, 3
Known = dict[tuple[str, str], list[str]]
Ask = Callable[[Sequence[Pin]], Known]


class Unanswered(Exception):
    """Nobody could say whether the pins are safe."""


def main() -> int:
    """Ask about every pin of every locked file, and tell."""
    # The lowest versions are for tests alone.
    paths = [path for path in LOCKED.glob("*.txt") if path.stem != "lowest"]
    pins = {(p.name, p.version): p for path in paths for p in read_pins(path)}
    try:
        asked, known = _answer(sys.argv[1:], [pins[key] for key in sorted(pins)])
    except Unanswered as problem:
        print(f"NOT AUDITED: nobody could say whether the {len(pins)} pins are safe.\n{problem}")
        return UNANSWERED
    for (name, version), ids in known.items():
        print(f"{name} {version}: {', '.join(ids)}")
    print(
        f"{len(pins)} pins looked up in {asked}: {len(known) or 'none'} with a known vulnerability"
    )
    return FOUND if known else 0


def _answer(words: list[str], pins: Sequence[Pin]) -> tuple[str, Known]:
    """Who answered, and every pin of which something is known."""
    if words:
        folder = Path(words[0].removeprefix("advisories="))
        return _checked(str(folder), partial(_in_folder, folder), pins)
    problems = []
    for service in SERVICES:
        try:
            return _checked(service, partial(_by_pip_audit, service), pins)
        except Unanswered as problem:
            problems.append(str(problem))
    raise Unanswered("\n".join(problems))


def _checked(name: str, ask: Ask, pins: Sequence[Pin]) -> tuple[str, Known]:
    if not ask([CANARY]):
        raise Unanswered(
            f"{name} knows nothing of {CANARY.requirement}, whose vulnerability it must know"
        )
    return name, ask(pins)


def _in_folder(folder: Path, pins: Sequence[Pin]) -> Known:
    try:
        advisories = read_advisories(folder)
    except ValueError as problem:
        raise Unanswered(str(problem)) from problem
    if datetime.now(UTC) - advisories.newest > OLDEST:
        raise Unanswered(
            f"the newest of the {advisories.number} advisories in {folder} is of {advisories.newest:%Y-%m-%d}, "
            f"and {OLDEST.days} days is the oldest that counts. Fetch them anew"
        )
    known = {(p.name, p.version): advisories.about(p.name, p.version) for p in pins}
    return {pin: ids for pin, ids in known.items() if ids}


def _by_pip_audit(service: str, pins: Sequence[Pin]) -> Known:
    """What pip-audit says of pins, which may hold one package in several versions."""
    known: Known = {}
    for batch in _one_version_each(pins):
        known |= _asked(service, batch)
    return known


def _one_version_each(pins: Sequence[Pin]) -> list[list[Pin]]:
    batches: list[dict[str, Pin]] = []
    for pin in pins:
        batch = next((b for b in batches if pin.name not in b), None)
        if batch is None:
            batches.append(batch := {})
        batch[pin.name] = pin
    return [list(batch.values()) for batch in batches]


def _asked(service: str, pins: Sequence[Pin]) -> Known:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pins.txt"
        path.write_text("".join(f"{p.name}=={p.version}{_hashes(p)}\n" for p in pins))
        command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service]
        command += ["--disable-pip", "--requirement", str(path), "--format", "json"]
        command += ["--progress-spinner", "off", "--desc", "off", "--aliases", "on"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return read_answer(service, done.stdout, done.stderr, pins)


def read_answer(service: str, output: str, errors: str, pins: Sequence[Pin]) -> Known:
    """pip-audit's JSON as what is known.

    Raises:
        Unanswered: it gave none, or skipped a package.
    """
    try:
        answered = json.loads(output)["dependencies"]
    except json.JSONDecodeError:
        reason = errors.strip().splitlines()[-1:] or ["it said nothing"]
        raise Unanswered(f"{service}: {reason[0]}") from None
    looked_up = {(d["name"], d["version"]): d["vulns"] for d in answered if "vulns" in d}
    missing = [p for p in pins if (p.name, p.version) not in looked_up]
    if missing:
        reasons = [d["skip_reason"] for d in answered if "skip_reason" in d]
        raise Unanswered(
            f"{service} skipped {len(missing)} of {len(pins)}. {'. '.join(reasons[:1])}"
        )
    return {
        pin: [" ".join([v["id"], *v.get("aliases", ())]) for v in vulns]
        for pin, vulns in looked_up.items()
        if vulns
    }


def _hashes(pin: Pin) -> str:
    return "".join(f" --hash=sha256:{digest}" for digest in pin.hashes)


if __name__ == "__main__":
    sys.exit(main())

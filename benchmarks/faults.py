"""The fault library as a table: what each fault must raise and did, and that healthy trainings raise nothing.

    python benchmarks/faults.py [WORD]

trains all of them, or those whose name holds WORD; some seconds each.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from debugging.faults import FAULTS, HEALTHY, found_by, watch
from sagelight.bundle.provenance import cpu_name


def main() -> None:
    word = sys.argv[1] if sys.argv[1:] else ""
    wrong, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        for number, fault in enumerate(each for each in FAULTS if word in each.name):
            root = Path(scratch) / f"fault-{number}"
            fault.photos(root / "photos")
            words = [*fault.words, f"data.root={root / 'photos'}"]
            found = found_by(watch(root / "run", words, fault.breaks))
            wrong += _row(fault.name, found, set(fault.rules), set(fault.may))
        for number, (name, words, photos) in enumerate(each for each in HEALTHY if word in each[0]):
            root = Path(scratch) / f"healthy-{number}"
            photos(root / "photos")
            found = found_by(watch(root / "run", [*words, f"data.root={root / 'photos'}"]))
            wrong += _row(f"healthy: {name}", found, set(), set())
    print(
        f"{wrong} wrong; {time.monotonic() - started:.0f} s on {os.cpu_count()} cores, {cpu_name()}"
    )
    sys.exit(bool(wrong))


def _row(name: str, found: set[str], must: set[str], may: set[str]) -> bool:
    missed, false = must - found, found - must - may
    verdict = "as it should be"
    if missed or false:
        verdict = f"MISSED {', '.join(sorted(missed))}; FALSE ALARM {', '.join(sorted(false))}"
    print(f"{name:45} {', '.join(sorted(found)) or 'nothing'}: {verdict}", flush=True)
    return bool(missed or false)


if __name__ == "__main__":
    main()

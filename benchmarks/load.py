"""Much of everything: 100,000 photos, 1,000 classes, 10,000 trials, a 200-megapixel photo, four trainings at once.

    python benchmarks/load.py [rows=index,classes,trials,photo,runs,together] [size=1] [folder=DIR] [output=FILE.json]

Each row is measured in a process of its own, after another has made what it needs: seconds on the clock and of the
processor (what other work on the machine changes less), the most memory that it held, and figures of its own, beside
bounds that were stated before. `size=0.01` makes a hundredth of everything, to see that it works. What is measured is
kept in FILE.json.part, so that the same command goes on after an interruption. Ends with 1 where a bound is exceeded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import load_classes
import load_index
import load_photo
import load_runs
import load_together
import load_trials
from load_measure import Row
from serving_bundle import machine

from sagelight.files import write_json

GROUPS: dict[str, list[Row]] = {
    "index": load_index.ROWS,
    "classes": load_classes.ROWS,
    "trials": load_trials.ROWS,
    "photo": load_photo.ROWS,
    "runs": load_runs.ROWS,
    "together": load_together.ROWS,
}
ROWS = {row.name: row for rows in GROUPS.values() for row in rows}
MAKE, MEASURE = "make", "measure"


@dataclass(frozen=True)
class Child:
    """What a process has printed as its last line, how it ended, and the most memory that it held, in MB."""

    figures: dict[str, float]
    status: int
    megabytes: float


def run(what: str, row: Row, folder: Path, size: float) -> Child:
    """Do a part of a row in a process of its own."""
    command = [sys.executable, __file__, what, row.name, str(folder), repr(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    lines = said.splitlines()
    figures = json.loads(lines[-1]) if process.returncode == 0 and lines else {}
    return Child(figures, process.returncode, usage.ru_maxrss / 1024)


def measure(row: Row, folder: Path, size: float) -> dict[str, Any]:
    """The figures of a row; those that exceed their bounds are named."""
    made = run(MAKE, row, folder, size)
    child = run(MEASURE, row, folder, size) if made.status == 0 else made
    figures = {"megabytes": child.megabytes, **child.figures}
    exceeded = row.exceeded(figures) if child.status == 0 else ["the process failed"]
    return {"figures": figures, "bounds": row.bounds, "exceeded": exceeded}


def show(row: Row, found: dict[str, Any]) -> None:
    print(f"{'EXCEEDED' if found['exceeded'] else 'holds':<9} {row.name}", flush=True)
    for name, value in found["figures"].items():
        bound = f"  (at most {row.bounds[name]:,g})" if name in row.bounds else ""
        print(f"{'':<12}{value:>12,.3f} {name}{bound}", flush=True)
    for each in found["exceeded"]:
        print(f"{'':<12}exceeded: {each}", flush=True)


def measure_all(names: list[str], folder: Path, size: float, part: Path) -> dict[str, Any]:
    """Every row of some groups; one that `part` holds already is not measured again."""
    results: dict[str, Any] = json.loads(part.read_text()) if part.is_file() else {}
    for name in names:
        for row in GROUPS[name]:
            if row.name not in results:
                results[row.name] = measure(row, folder, size)
                write_json(part, results)
            show(row, results[row.name])
    return results


def main(words: list[str]) -> int:
    options = dict(word.split("=", 1) for word in words)
    output = Path(options.get("output", "runs/benchmarks/load.json"))
    folder = Path(options.get("folder", "runs/load")).absolute()
    for each in (output.parent, folder):
        each.mkdir(parents=True, exist_ok=True)
    size, part = float(options.get("size", "1")), output.with_name(output.name + ".part")
    names = options.get("rows", ",".join(GROUPS)).split(",")
    print(f"{machine()}, load average {os.getloadavg()[0]:.1f}, size={size:g}", flush=True)
    results = measure_all(names, folder, size, part)
    facts = {"machine": machine(), "size": size, "load_average": os.getloadavg()}
    write_json(output, {**facts, "rows": results})
    part.unlink()
    print(f"written: {output}")
    return int(any(each["exceeded"] for each in results.values()))


def child(what: str, name: str, folder: str, size: str) -> int:
    """A row's part, in the process that `run` has started for it."""
    row = ROWS[name]
    found = (row.make if what == MAKE else row.work)(Path(folder), float(size))
    print()
    print(json.dumps(found or {}))
    return 0


if __name__ == "__main__":
    sys.exit(child(*sys.argv[1:]) if sys.argv[1:2] in ([MAKE], [MEASURE]) else main(sys.argv[1:]))

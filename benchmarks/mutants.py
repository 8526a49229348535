"""Would the tests notice? One change at a time in the code that others rely on, and the tests beside it.

    python benchmarks/mutants.py                                    every area; goes on where it was interrupted
    python benchmarks/mutants.py areas=tuning.space,bundle          some of them
    python benchmarks/mutants.py anew=yes                           what was killed before is tried again too

mutmut (requirements/mutants.txt) makes the mutants: an operator, a number, a text, a name or an argument changed in a
function, one a mutant. mutants_loop.py runs for each the tests that reach the function, in a process forked when all is
imported. What stands outside functions, and in those with a decorator but @classmethod and @staticmethod, mutmut leaves
alone.

Survivors lie with their difference in runs/mutants/survivors.diff, the figures in runs/mutants/mutants.json. A survivor
that computes what the original does is listed in mutants_equal.json with the reason, and is counted apart. A timeout is
a mutant that was noticed, and is shown. The program ends with 1 where an area has less than 85 % killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutants_loop import KILLED, SURVIVED, TIMEOUT, UNTESTED, read

from sagelight.bundle.provenance import cpu_name

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "runs" / "mutants"
EQUAL = Path(__file__).with_name("mutants_equal.json")
LEAST = 0.85


@dataclass(frozen=True)
class Area:
    """Modules of sagelight, and the tests that answer for them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


RULES = "base catalogue evaluate reading activations course labels losses tensors"
AREAS = {
    "config.overrides": Area(
        ("config.grammar", "config.hyperparameters", "config.compose"),
        ("config/test_grammar.py", "tuning/test_round_trip.py", "config/test_compose.py"),
    ),
    "tuning.space": Area(
        ("tuning.space", "tuning.ranges"), ("tuning/test_space.py", "tuning/test_round_trip.py")
    ),
    "cloud.limits": Area(
        ("cloud.contract", "cloud.rules", "tuning.rules"),
        ("cloud/test_contract.py", "cloud/test_rules.py"),
    ),
    "bundle": Area(
        ("bundle.spec", "bundle.preprocessing"),
        ("bundle/test_spec.py", "bundle/test_preprocessing.py"),
    ),
    "rules": Area(
        ("rulebook", *(f"debugging.rules.{name}" for name in RULES.split())),
        ("debugging/test_rules.py",),
    ),
}


def main() -> int:
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    names = words["areas"].split(",") if "areas" in words else list(AREAS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        forget(verdicts(name), words.get("anew") == "yes")
        run(name)
    return report(names)


def verdicts(name: str) -> Path:
    return FOLDER / f"{name}.jsonl"


def forget(file: Path, all_: bool) -> None:
    """Survivors meet the tests of today."""
    kept = [entry for entry in read(file) if entry["status"] == KILLED and not all_]
    file.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")


def run(name: str) -> None:
    area = AREAS[name]
    paths = os.pathsep.join(str(ROOT / each) for each in ("src", "benchmarks"))
    alone = {"PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    modules = ",".join(f"sagelight.{module}" for module in area.modules)
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "pytest", "-qs", "-p", "no:cacheprovider", "-p", "pytest_timeout",
            "-p", "_hypothesis_pytestplugin", "--hypothesis-seed=0", "--timeout=0", f"--basetemp={scratch}/tests",
            "-p", "mutants_loop", f"--mutate={modules}", f"--verdicts={verdicts(name)}",
            *(f"tests/{test}" for test in area.tests),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, env=os.environ | alone)
    if done.returncode not in (0, 5):
        sys.exit(f"{name}: pytest ended with {done.returncode}")


def report(names: list[str]) -> int:
    """Print the table and write the files; 1 where an area is below the limit."""
    equal = {(each["module"], each["was"], each["now"]) for each in json.loads(EQUAL.read_text())}
    areas: dict[str, Any] = {}
    survivors: list[str] = []
    print(f"\n{'':36}mutants  killed  timeouts  survived  no tests  equal   score")
    for name in names:
        modules: dict[str, Counter[str]] = {}
        for entry in read(verdicts(name)):
            status = entry["status"]
            if status == SURVIVED and (entry["module"], *lines(entry["change"])) in equal:
                status = "equal"
            modules.setdefault(entry["module"], Counter())[status] += 1
            if status in (SURVIVED, UNTESTED):
                survivors.append(
                    f"# {entry['module']}.{entry['name']}: {status}\n{entry['change']}\n"
                )
        for module, counts in modules.items():
            print_row(f"  {module.removeprefix('sagelight.')}", counts)
        total = sum(modules.values(), Counter())
        print_row(name, total)
        areas[name] = {**total, "score": score(total), "modules": modules}
    machine = f"{len(os.sched_getaffinity(0))} cores, {cpu_name()}"
    figures = {"machine": machine, "areas": areas}
    (FOLDER / "survivors.diff").write_text("\n".join(survivors), encoding="utf-8")
    (FOLDER / "mutants.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    return int(any(area["score"] < LEAST for area in areas.values()))


def lines(change: str) -> tuple[str, str]:
    """The lines that a mutant takes away, and those that it puts there."""
    was, now = (
        " ".join(line[1:].strip() for line in change.splitlines() if line.startswith(sign))
        for sign in "-+"
    )
    return was, now


def score(counts: Counter[str]) -> float:
    """The share that is noticed of those that differ from the original."""
    different = counts.total() - counts["equal"]
    return (counts[KILLED] + counts[TIMEOUT]) / different if different else 1.0


def print_row(name: str, counts: Counter[str]) -> None:
    shown = [counts[status] for status in (KILLED, TIMEOUT, SURVIVED, UNTESTED, "equal")]
    cells = "".join(
        f"{count:{width}}" for count, width in zip(shown, (8, 10, 10, 10, 7), strict=True)
    )
    print(f"{name:36}{counts.total():7}{cells}{score(counts):8.1%}")


if __name__ == "__main__":
    sys.exit(main())

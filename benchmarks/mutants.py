"""Would the tests notice? One change at a time in the code that others rely on, and the tests beside it.

    python benchmarks/mutants.py                                    every area; goes on where it was interrupted
    python benchmarks/mutants.py areas=tuning.space,bundle          some of them
    python benchmarks/mutants.py again=yes                          what survived is tried anew, with the tests of today

mutmut (requirements/mutants.txt) makes the mutants: an operator, a number, a text, a name or an argument changed in a function,
one a mutant. It forks each from a process that has the tests imported, and runs those that reach the function. What stands
outside functions, and in functions with a decorator other than @classmethod and @staticmethod, mutmut leaves alone.

Survivors lie with their difference in runs/mutants/survivors.diff, the figures in runs/mutants/mutants.json. A survivor that
computes the same as the original is listed in mutants_equal.json with the reason, and is counted apart. The program ends
with 1 where an area has less than 85 % killed; a timeout counts as killed, and is shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutmut.configuration import reset_config
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

from sagelight.bundle.provenance import cpu_name

ROOT = Path(__file__).resolve().parents[1]
LEAST = 0.85
EQUAL = Path(__file__).with_name("mutants_equal.json")
# What of the checkout the tests below read.
NEEDED = ("src", "tests", "conf", "launch", "requirements", "README.md", "pyproject.toml")
SETTINGS = """[mutmut]
source_paths=src
only_mutate={modules}
pytest_add_cli_args_test_selection={tests}
pytest_add_cli_args=-p
    no:cacheprovider
    -p
    cheapest_first
    --hypothesis-seed=0
also_copy=conf
    launch
    requirements
    README.md
process_isolation=forkserver
timeout_multiplier=10
timeout_constant=2
"""


@dataclass(frozen=True)
class Area:
    """Modules below src/sagelight, and the tests that answer for them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


AREAS = {
    "config.overrides": Area(
        ("config/grammar.py", "config/hyperparameters.py", "config/compose.py"),
        ("tests/config/test_compose.py", "tests/tuning/test_round_trip.py"),
    ),
    "tuning.space": Area(
        ("tuning/space.py", "tuning/ranges.py"),
        ("tests/tuning/test_space.py", "tests/tuning/test_round_trip.py"),
    ),
    "cloud.limits": Area(
        ("cloud/contract.py", "cloud/rules.py", "tuning/rules.py"),
        ("tests/cloud/test_contract.py", "tests/cloud/test_rules.py"),
    ),
    "bundle": Area(
        ("bundle/spec.py", "bundle/preprocessing.py"),
        ("tests/bundle/test_spec.py", "tests/bundle/test_preprocessing.py"),
    ),
    "rules": Area(("rulebook.py", "debugging/rules/*.py"), ("tests/debugging/test_rules.py",)),
}


@dataclass(frozen=True)
class Mutant:
    """A mutant, what became of it (mutmut's word), and the lines that it changes."""

    module: str
    name: str
    status: str
    was: str = ""
    now: str = ""
    difference: str = ""


def main() -> int:
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    names = words["areas"].split(",") if "areas" in words else list(AREAS)
    results = {}
    for name in names:
        folder = lay_out(name, AREAS[name])
        if words.get("again") == "yes":
            forget_survivors(folder)
        started = time.monotonic()
        run(folder)
        results[name] = (read(folder), time.monotonic() - started)
    return report(results)


def lay_out(name: str, area: Area) -> Path:
    """A folder in which mutmut finds the checkout, and no settings but ours."""
    folder = ROOT / "runs" / "mutants" / name
    folder.mkdir(parents=True, exist_ok=True)
    for needed in NEEDED:
        if not (folder / needed).exists():
            (folder / needed).symlink_to(ROOT / needed)
    listed = {
        "modules": "\n    ".join(f"src/sagelight/{module}" for module in area.modules),
        "tests": "\n    ".join(area.tests),
    }
    (folder / "setup.cfg").write_text(SETTINGS.format(**listed))
    return folder


def forget_survivors(folder: Path) -> None:
    for path in folder.glob("mutants/**/*.meta"):
        meta = json.loads(path.read_text())
        codes = meta["exit_code_by_key"]
        meta["exit_code_by_key"] = {
            name: code if status_by_exit_code[code] == "killed" else None
            for name, code in codes.items()
        }
        path.write_text(json.dumps(meta))


def run(folder: Path) -> None:
    mutmut = Path(sys.executable).with_name("mutmut")
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT / "benchmarks")))
    alone = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [mutmut, "run", "--max-children", "1"], cwd=folder, env=os.environ | alone
    )
    if done.returncode:
        sys.exit(f"mutmut ended with {done.returncode} in {folder}")


def read(folder: Path) -> list[Mutant]:
    """Every mutant; those that are not killed with their difference."""
    found = []
    with within(folder):
        for path in sorted(Path("mutants").rglob("*.meta")):
            source = path.relative_to("mutants").with_suffix("")
            module = source.relative_to("src/sagelight").as_posix()
            codes = json.loads(path.read_text())["exit_code_by_key"]
            for name, code in codes.items():
                status = status_by_exit_code[code]
                changed = () if status == "killed" else difference(name, source)
                found.append(Mutant(module, name, status, *changed))
    return found


def difference(name: str, source: Path) -> tuple[str, str, str]:
    """The lines that a mutant takes away, those that it puts there, and the unified diff."""
    diff = get_diff_for_mutant(name, path=source)
    lines = diff.splitlines()[2:]
    was, now = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return was, now, diff


@contextlib.contextmanager
def within(folder: Path) -> Iterator[None]:
    with contextlib.chdir(folder):
        reset_config()
        yield


def report(results: dict[str, tuple[list[Mutant], float]]) -> int:
    """Print the table and write the files; 1 where an area is below the limit."""
    equal = {(e["module"], e["was"], e["now"]): e["why"] for e in json.loads(EQUAL.read_text())}
    print(f"\n{'':44}  mutants  killed  timeouts  survived  no tests   equal   score")
    areas: dict[str, Any] = {}
    survivors = []
    for name, (mutants, seconds) in results.items():
        total: Counter[str] = Counter()
        modules = {}
        for module in dict.fromkeys(mutant.module for mutant in mutants):
            of_module = [mutant for mutant in mutants if mutant.module == module]
            alive = [m for m in of_module if m.status not in ("killed", "timeout")]
            real = [m for m in alive if (m.module, m.was, m.now) not in equal]
            survivors += real
            counts = Counter(m.status for m in of_module if m in real or m not in alive)
            counts["equal"] = len(alive) - len(real)
            total += counts
            modules[module] = dict(counts)
            row(f"{name}: {module}", counts)
        row(name, total)
        areas[name] = {**total, "score": score(total), "seconds": seconds, "modules": modules}
    folder = ROOT / "runs" / "mutants"
    text = "\n\n".join(f"# {m.name}: {m.status}\n{m.difference}" for m in survivors)
    (folder / "survivors.diff").write_text(text + "\n")
    machine = f"{len(os.sched_getaffinity(0))} cores, {cpu_name()}"
    (folder / "mutants.json").write_text(json.dumps({"machine": machine, "areas": areas}, indent=2))
    print(f"{machine}; survivors: {folder.relative_to(ROOT)}/survivors.diff")
    return int(any(area["score"] < LEAST for area in areas.values()))


def row(name: str, counts: Counter[str]) -> None:
    shown = (counts[key] for key in ("killed", "timeout", "survived", "no tests", "equal"))
    killed, late, alive, untested, equal = shown
    print(
        f"{name:44}{counts.total():9}{killed:8}{late:10}{alive:10}{untested:10}{equal:8}{score(counts):8.1%}"
    )


def score(counts: Counter[str]) -> float:
    """The share that is killed of those that differ from the original."""
    different = counts.total() - counts["equal"]
    return (counts["killed"] + counts["timeout"]) / different if different else 1.0


if __name__ == "__main__":
    sys.exit(main())

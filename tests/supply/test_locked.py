"""What is pinned: with hashes, without addresses, as requirements/*.txt and pyproject.toml ask, and as it is installed."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from container.dockerfile import instructions
from lock import CONSTRAINTS, LOCKS, Lock
from locked import LOCKED, ROOT, Pin, read_pins

PATHS = sorted(LOCKED.glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}
PYTHONS = [
    {"python_version": v, "python_full_version": f"{v}.7", **LINUX} for v in ("3.11", "3.12")
]


def asked(path: Path) -> list[Requirement]:
    """What a file written by hand asks for, with the files that it refers to."""
    found = []
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            found += asked(path.parent / line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            found.append(Requirement(line))
    return found


def ranges() -> list[Requirement]:
    """Everything that pyproject.toml allows, its extras included."""
    project = PROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return [wanted for wanted in found if wanted.name != project["name"]]


def pins(name: str) -> list[Pin]:
    return read_pins(LOCKED / f"{name}.txt")


def versions(name: str) -> dict[str, str]:
    return {pin.name: pin.version for pin in pins(name)}


def test_each_locked_file_is_one_that_lock_makes() -> None:
    assert {path.stem for path in PATHS} == {lock.name for lock in LOCKS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_pin_is_exact_and_hashed_and_names_no_address(path: Path) -> None:
    text = path.read_text()
    found = read_pins(path)
    assert len(found) == len(re.findall(r"^[^#\s]", text, re.MULTILINE))
    for pin in found:
        assert [given.operator for given in pin.requirement.specifier] == ["=="], pin.name
        assert pin.hashes, pin.name
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pin.hashes), pin.name
    assert not re.search(r"://|^-|\bindex|@", text, re.MULTILINE)


@pytest.mark.parametrize("where", PYTHONS, ids=lambda where: where["python_version"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_python_gets_one_version_of_each(path: Path, where: dict[str, str]) -> None:
    held = [pin.name for pin in read_pins(path) if pin.holds(**where)]
    assert held
    assert len(set(held)) == len(held)


@pytest.mark.parametrize("lock", [x for x in LOCKS if x.name != "lowest"], ids=lambda x: x.name)
def test_what_is_written_by_hand_is_what_is_locked(lock: Lock) -> None:
    found = versions(lock.name)
    overridden = (
        asked(ROOT / "requirements" / "in-image.txt") if "--override" in lock.options else []
    )
    wanted = [r for source in lock.sources for r in asked(ROOT / source)]
    kept = [r for r in wanted if r.name not in {o.name for o in overridden}]
    assert kept
    for requirement in kept:
        assert found[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("name", ["build", "image", "job", "study"])
def test_one_version_of_a_package_is_installed_wherever_it_is(name: str) -> None:
    dev = versions("dev")
    shared = {package: v for package, v in versions(name).items() if package in dev}
    assert len(shared) > 1
    assert shared == {package: dev[package] for package in shared}


def test_constraints_are_the_same_versions_without_hashes() -> None:
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    assert lines == [str(pin.requirement) for pin in pins("dev")]


@pytest.mark.parametrize("name", ["dev", "lowest"])
def test_every_version_is_one_that_pyproject_allows(name: str) -> None:
    allowed = {canonicalize_name(wanted.name): wanted.specifier for wanted in ranges()}
    found = [pin for pin in pins(name) if pin.name in allowed]
    # NVML needs a GPU: dev.txt has none of it.
    assert set(allowed) - {pin.name for pin in found} <= {"nvidia-ml-py"}
    assert [p.name for p in found if not allowed[p.name].contains(p.version)] == []


def test_a_job_installs_what_training_needs_but_what_the_image_brings() -> None:
    job, study = versions("job"), versions("study")
    brought = [
        n for n in study if re.match("torch(vision)?$|triton|nvidia|cuda|setuptools|pip$", n)
    ]
    assert brought == []
    assert set(job) >= {"pytorch-lightning", "torchmetrics", "hydra-core", "antlr4-python3-runtime"}
    assert set(study) - set(job) >= {"optuna", "sqlalchemy"}
    assert {name: study[name] for name in job} == job


def test_what_runs_here_is_what_is_locked() -> None:
    if not re.fullmatch(r"\.venv(-3\.\d+)?", Path(sys.prefix).name):
        pytest.skip("not an environment that make venv has made")
    # pip comes with Python, and installs itself last.
    found = [pin for pin in pins("dev") if pin.holds() and pin.name != "pip"]
    assert len(found) > 150
    assert {p.name: version(p.name) for p in found} == {p.name: p.version for p in found}


def test_other_machines_are_resolved_too() -> None:
    found = {pin.name: pin for pin in pins("dev")}
    for where in PYTHONS:
        elsewhere = where | {"sys_platform": "darwin", "platform_machine": "arm64"}
        assert found["nvidia-cublas"].holds(**where)
        assert not found["nvidia-cublas"].holds(**elsewhere)
        assert all(found[n].holds(**elsewhere) for n in ("torch", "numpy", "onnxruntime", "pillow"))


def test_conda_installs_what_is_locked() -> None:
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    [pip] = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    assert pip == ["--require-hashes", "-r requirements/locked/dev.txt"]


def installations() -> list[str]:
    """Every `pip install` of the Makefile and the Dockerfile, with make's shorthands written out."""
    makefile = (ROOT / "Makefile").read_text()
    short = dict(re.findall(r"^(PIP|HASHED) := (.*)$", makefile, re.MULTILINE))
    lines = makefile.replace("\\\n", " ").splitlines() + instructions("RUN")
    for name in ("HASHED", "PIP"):
        lines = [line.replace(f"$({name})", short[name]) for line in lines]
    commands = [part for line in lines for part in line.split("&&")]
    return [
        part
        for part in commands
        if "-m pip" in part and re.search(r"\binstall\b", part) and ":=" not in part
    ]


def test_nothing_is_installed_without_hashes_but_sagelight_itself() -> None:
    found = installations()
    assert len(found) >= 11
    for command in found:
        words = shlex.split(command.replace("$(", "(").replace("$<", "LOCKED"))
        ours = words[-1] == "." or words[-1].endswith("/wheels/*.whl")
        assert "--no-deps" in words if ours else "--require-hashes" in words, command


def test_both_supported_pythons_are_what_pyproject_says() -> None:
    assert PROJECT["project"]["requires-python"] == ">=3.11,<3.13"
    script = (ROOT / ".ci" / "run").read_text()
    assert "3.11" in script
    assert "3.12" in script

"""A plugin of pytest for mutants.py: tests are collected once, and a process forked for each mutant runs those that reach it.

    python -m pytest -p mutants_loop --mutate=sagelight.tuning.space --verdicts=FILE tests/tuning/test_space.py

mutmut writes all mutants of a module beside their originals, behind one switch; modules are loaded so. Forked after
collection, a mutant costs no import, and no more tests than it takes to notice it: the cheapest that reach its function
come first, and the first failure ends it. Verdicts are appended to FILE, so that what was interrupted goes on.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import unified_diff
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from multiprocessing import forkserver
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from mutmut.configuration import config
from mutmut.mutation.file_mutation import MutatedFile, mutate_file_contents
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state

# Processor time of all tests together, and the longest that a mutant may take on a busy machine, asleep or not.
CLEAN_SECONDS, ASLEEP_SECONDS = 600, 7200
KILLED, SURVIVED, TIMEOUT, UNTESTED = "killed", "survived", "timeout", "no tests"


class Mutated(MetaPathFinder, SourceFileLoader):
    """Loads modules with their mutants."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.mutants: dict[str, MutatedFile] = dict.fromkeys(modules, MutatedFile("", [], {}, {}))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in self.mutants else None
        if spec is not None:
            spec.loader = self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        path = str(module.__file__)
        mutated = mutate_file_contents(path, Path(path).read_text(encoding="utf-8"))
        self.mutants[module.__name__] = mutated
        exec(compile(mutated.code, path, "exec"), module.__dict__)

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Module, mutmut's names of the mutant and of its function, and the lines that change, of each mutant."""
        for module, mutated in self.mutants.items():
            lines, spans = mutated.code.splitlines(), mutated.line_span_by_function_name
            for name in mutated.mutant_names:
                function = name.rpartition("__mutmut_")[0]
                was, now = (
                    [
                        line.replace(each, "")
                        for line in lines[spans[each].start - 1 : spans[each].end]
                    ]
                    for each in (f"{function}__mutmut_orig", name)
                )
                change = "\n".join([*unified_diff(was, now, n=0, lineterm="")][2:])
                yield {"module": module, "name": name, "function": function, "change": change}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutate", help="Modules, separated by commas.")
    parser.addoption("--verdicts", help="Where a line is appended for each mutant.")


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Loaded from the checkout, before a test changes the folder.
    config()
    # Nobody here needs the server that the tests' other processes are forked from.
    forkserver.ensure_running = lambda: None
    modules = early_config.known_args_namespace.mutate.split(",")
    early_config.stash[FINDER] = finder = Mutated(modules)
    sys.meta_path.insert(0, finder)


FINDER = pytest.StashKey[Mutated]()
FAILED: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        FAILED.append(report.nodeid)


def pytest_runtestloop(session: pytest.Session) -> bool:
    if session.testsfailed:
        raise session.Failed("the tests could not be collected")
    reached = in_fork(lambda: reach(session.items), CLEAN_SECONDS)
    if not isinstance(reached, dict):
        raise session.Failed(f"without any mutant {reached} fails, or takes too long")
    # What is collected in a process that shares its memory is copied.
    gc.freeze()
    finder = session.config.stash[FINDER]
    for module in finder.mutants:
        import_module(module)
    verdicts = Path(session.config.getoption("--verdicts"))
    known = {identity(entry) for entry in read(verdicts)}
    mutants = [each for each in finder if identity(each) not in known]
    # What an interrupted run has tried is a fair sample.
    Random(0).shuffle(mutants)
    with verdicts.open("a", encoding="utf-8") as file:
        for number, mutant in enumerate(mutants):
            if number % 20 == 0:
                print(f"\r{number} of {len(mutants)}", end="", file=sys.stderr, flush=True)
            tests = reached.get(f"{mutant['module']}.{mutant['function']}", [])
            status = verdict(mutant, [(session.items[n], seconds) for n, seconds in tests])
            file.write(json.dumps(mutant | {"status": status}) + "\n")
            file.flush()
    return True


def read(verdicts: Path) -> list[dict[str, str]]:
    if not verdicts.is_file():
        return []
    return [json.loads(line) for line in verdicts.read_text(encoding="utf-8").splitlines()]


def identity(mutant: Mapping[str, str]) -> tuple[str, str, str]:
    """Stays the same as long as its function does; mutmut's numbers stay so too."""
    return mutant["module"], mutant["name"], mutant["change"]


def reach(items: Sequence[pytest.Item]) -> dict[str, list[tuple[int, float]]] | str:
    """The numbers of the tests that call a function and their seconds, cheapest first; the name of a test that fails."""
    set_mutant_under_test("stats")
    found: dict[str, list[tuple[int, float]]] = {}
    for number, item in enumerate(items):
        state()._stats.clear()
        began = time.process_time()
        if fails(item):
            return item.nodeid
        for function in state()._stats:
            found.setdefault(function, []).append((number, time.process_time() - began))
    return {name: sorted(tests, key=lambda test: test[1]) for name, tests in found.items()}


def verdict(mutant: Mapping[str, str], tests: Sequence[tuple[pytest.Item, float]]) -> str:
    if not tests:
        return UNTESTED

    def noticed() -> bool:
        set_mutant_under_test(f"{mutant['module']}.{mutant['name']}")
        return any(fails(item) for item, _ in tests)

    died = in_fork(noticed, 10 + 10 * sum(seconds for _, seconds in tests))
    return TIMEOUT if died is None else KILLED if died else SURVIVED


def fails(item: pytest.Item) -> bool:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    return bool(FAILED)


def in_fork(work: Callable[[], Any], seconds: float) -> Any:
    """What `work` gives in a process of its own; None where that takes more processor time, or sleeps too long."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer: Any = True  # Whoever takes the process along has been noticed.
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds)))
            silence()
            answer = work()
        finally:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(json.dumps(answer).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        if not select.select([pipe], [], [], ASLEEP_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
        answer = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(answer) if answer else None


def silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)

"""Commands that are killed and repeated until they have ended, compared with one that nobody has killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from killing import LOG, Command, Door, start
from killing_ways import WAYS, end

from sagelight.bundle.provenance import cpu_name
from sagelight.files import write_json

MOST_KILLS = 4
OUTCOMES = ("resumed", "lost", "different", "done again")
Facts = dict[str, str]
UNKNOWN = ""


@dataclass(frozen=True)
class Story:
    """A command to be killed.

    Attributes:
        facts: what it has come to, by name, from the folder that it was run in; equal for equal ends.
        stage: what it is doing, from the same folder.
        kept: files that a repetition must leave alone.
        ways: those that fit; see `killing_ways`.
        until: the share of its time in which it is killed.
    """

    name: str
    words: Sequence[str]
    facts: Callable[[Path], Facts]
    stage: Callable[[Path], str]
    door: Door
    kept: Callable[[Path], list[Path]]
    ways: tuple[str, ...] = tuple(WAYS)
    until: float = 1.0
    prepare: Callable[[Path], None] = lambda folder: None


@dataclass(frozen=True)
class Asked:
    """How many kills a program is asked for, and where it tells of them; `about` must not change before it is through."""

    kills: int
    seed: int
    output: Path
    about: dict[str, Any]


def arguments(program: str) -> Asked:
    """`kills=500 seed=1 output=FILE.json`, as typed."""
    typed = dict(word.split("=", 1) for word in sys.argv[1:])
    seed, output = int(typed.get("seed", "0")), typed.get("output", f"runs/{program}.json")
    about = {"program": program, "seed": seed, "machine": f"{os.cpu_count()} cores, {cpu_name()}"}
    path = Path(output).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    return Asked(int(typed.get("kills", "100")), seed, path, about)


def run_stories(program: str, prepare: Callable[[Path], None], stories: Sequence[Story]) -> None:
    """Do what `kills=500 seed=1 output=FILE.json` asks for, print the tables, and exit with 1 where anything was lost.

    Args:
        program: its name.
        prepare: leaves in a folder what the stories need two folders above their own, and loads what they import.
    """
    asked = arguments(program)
    journal = Journal(asked.output, asked.about)
    with tempfile.TemporaryDirectory() as scratch:
        if journal.kills() < asked.kills:
            prepare(Path(scratch))
            _kill(Path(scratch), journal, asked, stories)
    print(f"{asked.about}\n")
    sys.exit(not print_table(journal.told))


def _kill(scratch: Path, journal: Journal, asked: Asked, stories: Sequence[Story]) -> None:
    wholes: dict[str, Whole] = {}
    while journal.kills() < asked.kills:
        number = len(journal.told)
        chance = random.Random(f"{asked.seed} {number}")
        story = chance.choice(stories)
        if story.name not in wholes:
            wholes[story.name] = undisturbed(story, scratch / "whole" / story.name)
        folder = scratch / "killed" / story.name
        journal.add(tell(number, story, wholes[story.name], folder, chance), folder)


@dataclass(frozen=True)
class Whole:
    """What a story comes to when nobody kills it, and in how many seconds."""

    facts: Facts
    seconds: float


@dataclass
class Told:
    """What became of a story.

    Attributes:
        kills: stage and way of each.
        left: hidden files that nobody has removed.
    """

    number: int
    story: str
    outcome: str = "resumed"
    detail: str = ""
    left: list[str] = field(default_factory=list)
    kills: list[tuple[str, str]] = field(default_factory=list)


def undisturbed(story: Story, folder: Path) -> Whole:
    began = time.monotonic()
    command = _begin(story, folder)
    command.over_within(3600)
    seconds = time.monotonic() - began
    if command.code != 0:
        raise SystemExit(f"{story.name} is not even done when nobody kills it:\n{_said(folder)}")
    return Whole(story.facts(folder), seconds)


def tell(number: int, story: Story, whole: Whole, folder: Path, chance: random.Random) -> Told:
    """Kill a story a few times, repeat it until it has ended, and once more."""
    told = Told(number, story.name)
    command = _begin(story, folder)
    for _ in range(chance.randint(1, MOST_KILLS)):
        if command.over_within(chance.uniform(0, whole.seconds * story.until)):
            break
        stage, way = story.stage(folder), chance.choice(story.ways)
        if end(way, command, folder, chance):
            told.kills.append((stage, way))
        command = start(story.words, folder, story.door)
    command.over_within(3600)
    told.outcome, told.detail = _outcome(story, whole, folder, command)
    told.left = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob(".*") if path.name != ".lock"
    )
    return told


def _begin(story: Story, folder: Path) -> Command:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    story.prepare(folder)
    return start(story.words, folder, story.door)


def _outcome(story: Story, whole: Whole, folder: Path, command: Command) -> tuple[str, str]:
    if command.code != 0:
        return "lost", f"exit {command.code}: {_said(folder)}"
    facts = story.facts(folder)
    if other := differing(facts, whole.facts):
        return "different", ", ".join(other)
    stamps = [path.stat().st_mtime_ns for path in story.kept(folder)]
    again = start(story.words, folder, story.door)
    again.over_within(3600)
    if again.code != 0 or stamps != [path.stat().st_mtime_ns for path in story.kept(folder)]:
        return "done again", _said(folder)
    return "resumed", ""


def differing(facts: Facts, whole: Facts) -> list[str]:
    """Names of the facts that are others than they would be."""
    names = facts.keys() | whole.keys()
    return sorted(n for n in names if facts.get(n) not in (whole.get(n), UNKNOWN))


def _said(folder: Path) -> str:
    return (folder / LOG).read_text(errors="replace")[-2000:]


class Journal:
    """What has been told so far, on the disk; a program that was interrupted goes on after it."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self._path, self._about = path, about
        self.told: list[Told] = []
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["about"] != about:
                raise SystemExit(
                    f"{path} tells of {content['about']}: type another output=FILE.json"
                )
            self.told = [Told(**entry) for entry in content["told"]]

    def kills(self) -> int:
        return sum(len(told.kills) for told in self.told)

    def add(self, told: Told, folder: Path) -> None:
        """Keep what became of a story, and of one that ended otherwise also what it has left in `folder`."""
        self.told.append(told)
        write_json(self._path, {"about": self._about, "told": [asdict(told) for told in self.told]})
        if told.outcome != "resumed" or told.left:
            shutil.copytree(folder, self._path.with_suffix(f".{told.number}"), dirs_exist_ok=True)
            print(
                f"{told.number} {told.story} {told.kills}: {told.outcome} {told.detail} {told.left}"
            )
            sys.stdout.flush()


def print_table(told: Sequence[Told]) -> bool:
    """By stage and by way; gives whether every story came to the end that it would have come to."""
    for kind, heading in enumerate(("stage", "way")):
        names = sorted({kill[kind] for each in told for kill in each.kills})
        print(
            f"| {heading} | kills | {' | '.join(OUTCOMES)} |\n|---|{'---|' * (1 + len(OUTCOMES))}"
        )
        for name in names:
            counts = _counts(told, lambda kill, n=name, k=kind: kill[k] == n)  # type: ignore[misc]
            _row(name, counts)
        _row("all", _counts(told, lambda kill: True))
        print()
    left = sum(bool(each.left) for each in told)
    print(f"{len(told)} stories, of which {left} have left hidden files behind")
    return all(each.outcome == "resumed" and not each.left for each in told)


def _counts(told: Sequence[Told], counts: Callable[[tuple[str, str]], bool]) -> Counter[str]:
    return Counter(each.outcome for each in told for kill in each.kills if counts(kill))


def _row(name: str, counts: Counter[str]) -> None:
    print(f"| {name} | {counts.total()} | {' | '.join(str(counts[o]) for o in OUTCOMES)} |")

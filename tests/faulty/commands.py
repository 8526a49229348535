"""The commands that talk to the cloud, typed behind a faulty proxy, and what must be true of how each ends."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from bundles import make_bundle, make_photos, photo
from faulty.plans import Plan, healthy
from faulty.proxy import REAL_SLEEP
from faulty.stage import BUCKET, FOREVER, INNER_STUDY, Stage
from sagelight.cli import main as here
from sagelight.cloud.command import SECONDS_BETWEEN_LOOKS
from sagelight.cloud.door import main as cloud
from sagelight.cloud.results import MARKER
from sagelight.cloud.source import Source, pack_source
from sagelight.rehearsal.command import ROLE
from sagelight.tuning.study import Study, read_study

# A command that has not ended by then hangs.
LONGEST = 300
WAY_ON = re.compile(r"\b(Type|Repeat|repeat|Wait|Set|[Aa]sk)\b")
# Of the names of a study's trials.
CHANCE = re.compile(r"(-\d{3})-[0-9a-f]{8}\b")
TRAIN = (
    "experiment=squeezenet", "model.backbone=squeezenet1_1", "model.weights=none", "data.image_size=32",
    "data.batch_size=8", "data.num_workers=0", "data.root={photos}", "check=off", "run_dir=out",
)  # fmt: skip
TRIALS = (
    *TRAIN, "hpo=true", "finetune=full", "optimizer.lr=tag(log,interval(0.001,0.1))", "hpo.max_jobs=2",
    "hpo.max_parallel_jobs=2", "hpo.backend=tuner",
)  # fmt: skip
DEPLOY = ("deploy", "bundle={bundle}", "endpoint=flowers")
SCALED = ("deploy.max_instances=2", f"deploy.scheduler_role={ROLE}")
UNFOLLOWED = "cloud.follow=false"


@dataclass(frozen=True)
class Scenario:
    """A command, and what was typed before it.

    Attributes:
        words: as typed; {photos}, {bundle}, {other} and {photo} are paths, {job} is the first job that there is.
        before: commands without faults that make what it needs.
        keeps: whether it leaves the account as it was, so that the next one of it can do without `before`.
        says: whether what it prints is its result.
        door: the program that it is typed at.
    """

    name: str
    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    keeps: bool = False
    says: bool = False
    door: Callable[[list[str]], int] = cloud


JOB = (*TRAIN, UNFOLLOWED)
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("train", TRAIN),
        Scenario("train, not followed", JOB),
        Scenario("train hpo", (*TRIALS, "hpo.retrain=true")),
        Scenario(
            "train hpo in one job",
            (*TRIALS[:-1], "hpo.backend=job", f"cloud.environment=['{INNER_STUDY}=1']"),
        ),
        Scenario("status", ("status", "job={job}"), (JOB,), keeps=True, says=True),
        Scenario("logs", ("logs", "job={job}"), (JOB,), keeps=True, says=True),
        Scenario("fetch", ("fetch", "job={job}", "output=out"), (JOB,), keeps=True),
        Scenario("fetch hpo", ("fetch", "job={job}", "output=out"), (TRIALS,), keeps=True),
        Scenario("stop", ("stop", "job={job}"), ((*JOB, f"cloud.environment=['{FOREVER}=1']"),)),
        Scenario("deploy", (*DEPLOY, *SCALED)),
        Scenario("deploy job", ("deploy", "job={job}", "endpoint=flowers"), (JOB,)),
        Scenario("deploy serverless", (*DEPLOY, "mode=serverless")),
        Scenario("deploy async", (*DEPLOY, "mode=async", UNFOLLOWED)),
        Scenario("deploy update", ("deploy", "bundle={other}", "endpoint=flowers", *SCALED), (DEPLOY,)),
        Scenario("invoke", ("invoke", "endpoint=flowers", "input={photo}"), (DEPLOY,), keeps=True, says=True),
        Scenario(
            "invoke async",
            ("invoke", "endpoint=flowers", "input={photo}"),
            ((*DEPLOY, "mode=async"),),
            keeps=True,
            says=True,
        ),
        Scenario("transform", ("transform", "bundle={bundle}", "input={photos}", "output=out")),
        Scenario(
            "transform in S3",
            ("transform", "bundle={bundle}", "input=s3://{bucket}/sagelight/photos/", f"output=s3://{BUCKET}/table"),
            (("transform", "bundle={other}", "input={photos}", "output=before"),),
        ),
        Scenario("explain", ("explain", "bundle={bundle}", "input={jpegs}", "output=out")),
        Scenario("cleanup endpoint", ("cleanup", "endpoint=flowers"), ((*DEPLOY, *SCALED),)),
        Scenario(
            "cleanup all",
            ("cleanup", "all=true", "jobs=true"),
            ((*DEPLOY, *SCALED), (*JOB, f"cloud.environment=['{FOREVER}=1']")),
        ),
        Scenario("cleanup list", ("cleanup", "all=true", "dry_run=true"), (DEPLOY,), keeps=True, says=True),
        Scenario("prepare", ("prepare", "data.root={photos}", "output=s3://{bucket}/shards"), (("transform", "bundle={other}", "input={photos}", "output=before"),), door=here),
    )
}  # fmt: skip


@dataclass
class Ended:
    """How one command ended."""

    code: int
    out: str
    err: str
    raised: str = ""


@dataclass
class Verdict:
    """What became of one scenario under one plan.

    Attributes:
        wrong: what must not be; empty where all is well.
        injected: how often each kind of fault met each operation.
    """

    code: int
    wrong: list[str]
    injected: dict[tuple[str, str], int]
    message: str = ""
    seconds: float = 0.0


@dataclass
class Player:
    """Types scenarios at one stage, in folders below `scratch`.

    Attributes:
        patience: how long answers are waited for behind faults.
        asked: of each scenario that was played, how many requests of which operation it makes undisturbed.
    """

    stage: Stage
    scratch: Path
    patience: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    asked: dict[str, dict[str, int]] = field(default_factory=dict)
    _known: dict[str, tuple[Any, Any, str]] = field(default_factory=dict)
    _standing: str = ""

    def __post_init__(self) -> None:
        root = self.scratch / "material"
        make_photos(root / "photos", each=6)
        (root / "jpegs").mkdir()
        for number, colour in enumerate(("red", "blue")):
            photo(colour, 40, 30).save(root / "jpegs" / f"{number}.jpg")
        make_bundle(root / "bundle")
        make_bundle(root / "other", image_size=32)
        self._places = {
            "photos": root / "photos",
            "jpegs": root / "jpegs",
            "bundle": root / "bundle",
            "other": root / "other",
            "photo": root / "jpegs" / "0.jpg",
            "bucket": BUCKET,
        }

    def undisturbed(self, scenario: Scenario) -> tuple[Any, Any, str]:
        """State, files and words of the scenario without faults."""
        if scenario.name not in self._known:
            self._prepare(scenario)
            with self._folder() as folder:
                self.stage.proxy.begin(healthy)
                ended = self._typed(scenario)
                self.asked[scenario.name] = dict(self.stage.proxy.forwarded)
                assert ended.code == 0, f"{scenario.name}: {ended.err}{ended.raised}"
                self._known[scenario.name] = self._result(scenario, folder, ended)
        return self._known[scenario.name]

    def play(self, scenario: Scenario, plan: Plan) -> Verdict:
        """Type a scenario behind faults, and once more without where it failed."""
        expected = self.undisturbed(scenario)
        self._prepare(scenario)
        began = time.monotonic()
        made_before = set(self.stage.costly())
        with self._folder() as folder:
            self.stage.proxy.begin(plan)
            with self.patience():
                ended = self._typed(scenario)
            injected = dict(self.stage.proxy.injected)
            self.stage.proxy.begin(healthy)
            wrong = [*_wrong(ended), *self._unnamed(ended, made_before)]
            if ended.code and not ended.raised:
                again = self._typed(scenario, direct=True)
                if again.code:
                    wrong.append(
                        f"the same command again ended with {again.code}: {again.err}{again.raised}"
                    )
            else:
                again = ended
            found = self._result(scenario, folder, again)
            wrong += [
                f"{what} differ: {_difference(found[n], expected[n])}"
                for n, what in enumerate(("things in the account", "files", "words"))
                if found[n] != expected[n] and not ended.raised
            ]
        return Verdict(ended.code, wrong, injected, ended.err, time.monotonic() - began)

    def _prepare(self, scenario: Scenario) -> None:
        if scenario.keeps and self._standing == scenario.name:
            return
        self.stage.reset()
        with self._folder():
            for words in scenario.before:
                ended = self._typed(Scenario("before", words), direct=True)
                assert ended.code == 0, f"{words}: {ended.err}{ended.raised}"
        self.stage.state()
        self._standing = scenario.name if scenario.keeps else ""

    def _typed(self, scenario: Scenario, direct: bool = False) -> Ended:
        jobs = iter(self.stage.costly())
        places = {**self._places, "job": next(jobs, "")}
        words = [_filled(word, places) for word in scenario.words]
        out, err = io.StringIO(), io.StringIO()
        exported = {**self.stage.variables(direct), "SAGEMAKER_ROLE": ROLE}
        with (
            mock.patch.dict(os.environ, exported),
            mock.patch.dict(SECONDS_BETWEEN_LOOKS, {"aws": 0.1}),
            mock.patch("sagelight.cloud.command.read_study", _study),
            mock.patch("sagelight.cloud.plan.pack_source", _source),
            _shorter_pauses(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                code, raised = scenario.door(words), ""
            except BaseException:
                code, raised = 1, traceback.format_exc()
        return Ended(code, out.getvalue(), err.getvalue(), raised)

    def _unnamed(self, ended: Ended, before: set[str]) -> list[str]:
        """What costs, was made by a command that failed, and is not in its message."""
        if not ended.code:
            return []
        made = {n: status for n, status in self.stage.costly().items() if n not in before}
        said = [name for name in made if name in ended.err or f"{name}: Completed" in ended.out]
        return [f"{n} ({s}) is not named in: {ended.err}" for n, s in made.items() if n not in said]

    def _result(self, scenario: Scenario, folder: Path, ended: Ended) -> tuple[Any, Any, str]:
        state = json.loads(CHANCE.sub(r"\1", json.dumps(self.stage.state())))
        said = ended.out if scenario.says else ""
        return state, _files(folder), re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", said)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """An empty folder to work in."""
        folder, before = self.scratch / "work", Path.cwd()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def _source(experiments: dict[str, Path], studies: bool) -> Source:
    """The checkout does not change meanwhile."""
    return pack_source(experiments, studies) if experiments else _packed(studies)


@cache
def _packed(studies: bool) -> Source:
    return pack_source({}, studies)


def _study(words: Sequence[str]) -> Study:
    """The same words compose the same configuration."""
    return deepcopy(_composed(tuple(words)))


@cache
def _composed(words: tuple[str, ...]) -> Study:
    return read_study(words)


def _filled(word: str, places: Mapping[str, object]) -> str:
    for name, place in places.items():
        word = word.replace(f"{{{name}}}", str(place))
    return word


def _wrong(ended: Ended) -> list[str]:
    """What must not be of any command, whatever happens to it."""
    found = []
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    if ended.raised:
        found.append(f"a traceback: {ended.raised}")
    elif ended.code not in (0, 2):
        found.append(f"exit code {ended.code}")
    elif len(errors) != (ended.code == 2):
        found.append(f"exit code {ended.code} and {len(errors)} messages: {ended.err}")
    elif errors and not WAY_ON.search(errors[0]):
        found.append(f"no way to go on: {errors[0]}")
    if "Traceback" in ended.out + ended.err:
        found.append(f"a traceback is printed: {ended.out}{ended.err}")
    return found


def _files(folder: Path) -> dict[str, str]:
    """Digests of all files, without what a clock measured and drew."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith("before/"):
            content = _without_clock(path)
            found[name] = hashlib.sha256(content).hexdigest() if content is not None else "there"
    return found


def _without_clock(path: Path) -> bytes | None:
    if path.name == "trials.csv":
        with path.open(newline="") as file:
            rows = [{**row, "seconds": ""} for row in csv.DictReader(file)]
        return CHANCE.sub(r"\1", repr(rows)).encode()
    if path.name == MARKER:
        return CHANCE.sub(r"\1", path.read_text()).encode()
    return None if path.suffix in (".html", ".db") else path.read_bytes()


def _difference(found: Any, expected: Any) -> str:
    if not isinstance(found, dict):
        return f"{found!r} instead of {expected!r}"
    keys = [k for k in {**found, **expected} if found.get(k) != expected.get(k)]
    return "; ".join(f"{k}: {found.get(k)!r} instead of {expected.get(k)!r}" for k in keys)


@contextlib.contextmanager
def _shorter_pauses() -> Iterator[None]:
    """Between two attempts, and between two looks at a job."""
    with (
        mock.patch("time.sleep", lambda pause: REAL_SLEEP(min(pause, 0.1))),
        # Of botocore's: after a throttled request it lets pass that many a second, and waits.
        mock.patch("botocore.retries.bucket.TokenBucket.__init__.__defaults__", (100.0,)),
    ):
        yield


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Stalled answers are not waited for, and a command that hangs is ended; needs a machine that is not in need itself."""

    def too_long(number: int, frame: object) -> None:
        raise TimeoutError(f"not ended after {LONGEST} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST)
    waits = {"_SECONDS": 1.0, "_ANSWER_SECONDS": 1.0}
    try:
        with mock.patch.multiple("sagelight.cloud.client", **waits):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

"""Studies that are killed at random moments: does one lose a finished trial, or repeat one?

    python benchmarks/kills.py 1000

kills that many times: the study, a process that trains for it, or both at once. After a few kills the same command
ends the study, and what had ended before each kill must be there as it was. One study in four trains whole networks,
the others heads on cached features. Studies are forked from this process, and their processes from one server, so
that a kill costs a second and not the import of torch; `SEED` in the environment chooses other moments.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sagelight.bundle.provenance import cpu_name
from sagelight.cli import main as launch
from sagelight.forking import get_ready

JOBS = 6
MOST_KILLS = 6
# A study ends in less when nobody disturbs it.
SECONDS = 3.0
TRIES = 20
COMMON = [
    "experiment=resnet18", "model.backbone=squeezenet1_1", "model.weights=none", "check=off", "data.image_size=32",
    "data.num_workers=0", "data.root=photos", "trainer.precision=32-true", "trainer.accelerator=cpu", "run_dir=study",
    "features.folder=features", "hpo.strategy=random", f"hpo.max_jobs={JOBS}", "hpo.max_parallel_jobs=2",
    "optimizer.lr=tag(log,interval(0.0005,0.05))", "-m",
]  # fmt: skip
HEADS = ["finetune=head", "augment=none", "data.batch_size=2,3,4", "trainer.max_epochs=3"]
WHOLE = [
    "finetune=full",
    "trainer.limit_train_batches=1",
    "data.batch_size=4",
    "trainer.max_epochs=2",
]
Rows = dict[int, tuple[Any, ...]]


def main() -> None:
    wanted = int(sys.argv[1])
    chance = random.Random(int(os.environ.get("SEED", "0")))
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    started = time.monotonic()
    kills, studies, lost, repeated, failed, stuck = 0, 0, 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        _make_photos(Path("photos"), np.random.default_rng(0))
        get_ready("sagelight.tuning.worker")
        for name in ("optuna", "sagelight.tuning.local"):
            import_module(name)
        while kills < wanted:
            words = [*COMMON, *(WHOLE if studies % 4 == 3 else HEADS)]
            before: Rows = {}
            for _ in range(min(chance.randint(1, MOST_KILLS), wanted - kills)):
                hit = _killed(words, server, chance)
                if not hit:
                    break
                kills += hit
                now = _ended()
                lost += _missing(before, now)
                before = now
            stuck += not _ends(words, server)
            after = _ended()
            lost += _missing(before, after)
            repeated += len(after) - len({row[1] for row in after.values()})
            failed += sum(row[0] == "FAIL" for row in after.values())
            studies += 1
            shutil.rmtree("study")
            if studies % 5 == 0:
                shutil.rmtree("features", ignore_errors=True)
                print(
                    f"{kills} kills, {studies} studies: {lost} lost, {repeated} repeated, {stuck} stuck",
                    flush=True,
                )
        os.chdir("/")
        seconds = time.monotonic() - started
    print(
        f"{kills} kills in {studies} studies of {JOBS} trials: {lost} finished trials lost, {repeated} repeated, "
        f"{failed} failed, {stuck} studies that did not end; {seconds:.0f} s on {os.cpu_count()} cores, {cpu_name()}"
    )
    sys.exit(bool(lost or repeated or stuck))


def _make_photos(root: Path, rng: np.random.Generator) -> None:
    for label, level in (("dark", 60), ("light", 190)):
        (root / label).mkdir(parents=True)
        for number in range(10):
            pixels = rng.normal(level, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")


def _start(words: list[str], server: Any) -> int:
    # A study that is killed while it asks for a process takes the server along, which is its own outside of here.
    get_ready("sagelight.tuning.worker")
    pid = os.fork()
    if pid:
        return pid
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # The server is the first process's child, so this one cannot ask after it; it is running.
    server.ensure_running = forkserver.ensure_running = lambda: None
    code = 1
    try:
        code = launch(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _killed(words: list[str], server: Any, chance: random.Random) -> int:
    """Start a study and kill at a random moment; gives the number of kills, 0 where it had ended before."""
    pid = _start(words, server)
    victim = chance.choice(("study", "worker", "both"))
    deadline = time.monotonic() + chance.uniform(0, SECONDS)
    while time.monotonic() < deadline:
        if _over(pid):
            return 0
        time.sleep(0.005)
    hit = 0
    if victim != "study":
        workers = _children(server._forkserver_pid)
        for worker in chance.sample(workers, min(1, len(workers))):
            hit += _kill(worker)
        if victim == "worker":
            # It goes on by itself for a moment, and dies in its turn.
            time.sleep(chance.uniform(0, 1))
    if _over(pid):
        return hit
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return hit + 1


def _ends(words: list[str], server: Any) -> bool:
    """Repeat the command until the study has ended."""
    for _ in range(TRIES):
        _, status = os.waitpid(_start(words, server), 0)
        if os.waitstatus_to_exitcode(status) == 0 and len(_ended()) >= JOBS:
            return True
    return False


def _over(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def _ended() -> Rows:
    """State, values and everything else of each trial that has ended, by its number."""
    path = Path("study/study.db")
    if not path.is_file():
        return {}
    connection = sqlite3.connect(path)
    found: Rows = {}
    try:
        trials = connection.execute(
            "select trial_id, number, state from trials where state in ('COMPLETE', 'PRUNED', 'FAIL')"
        ).fetchall()
        for trial, number, state in trials:
            kept = dict(
                connection.execute(
                    "select key, value_json from trial_user_attributes where trial_id = ?", (trial,)
                ).fetchall()
            )
            scores = connection.execute(
                "select value from trial_values where trial_id = ?", (trial,)
            ).fetchall()
            if "lost" not in kept:
                found[number] = (state, kept.get("values"), kept.get("seconds"), tuple(scores))
    except sqlite3.OperationalError:
        # Killed before there were tables.
        return {}
    finally:
        connection.close()
    return found


def _missing(before: Rows, after: Rows) -> int:
    return sum(after.get(number) != row for number, row in before.items())


if __name__ == "__main__":
    main()

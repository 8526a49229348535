"""Studies that are killed: nothing finished is lost, nothing is repeated."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from stories.commands import TINY, read_csv, start

JOBS = 12
# Batch sizes form groups, which end one after the other.
SPACE = ["optimizer.lr=tag(log,interval(0.0005,0.05))", "data.batch_size=2,4,6,8"]
Rows = dict[int, tuple[object, ...]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def words(photos: Path, *more: str) -> list[str]:
    chosen = {word.partition("=")[0] for word in more} | {"optimizer.lr"}
    small = [word for word in TINY if word.partition("=")[0] not in chosen]
    return [*small, f"data.root={photos}", "run_dir=study", "callbacks.ema_decay=0", *more, "-m"]


def heads(photos: Path) -> list[str]:
    more = ["finetune=head", "augment=none", *SPACE, "trainer.max_epochs=6", "hpo.strategy=random"]
    return words(photos, *more, f"hpo.max_jobs={JOBS}")


def ended() -> Rows:
    """All that is kept of each trial that has ended, by its number."""
    connection = sqlite3.connect("study/study.db")
    kept: Rows = {}
    query = (
        "select trial_id, number, state from trials where state in ('COMPLETE', 'PRUNED', 'FAIL')"
    )
    for trial, number, state in connection.execute(query).fetchall():
        attributes = connection.execute(
            "select key, value_json from trial_user_attributes where trial_id = ? order by key",
            (trial,),
        ).fetchall()
        values = connection.execute(
            "select value from trial_values where trial_id = ?", (trial,)
        ).fetchall()
        if "lost" not in dict(attributes):
            kept[number] = (state, tuple(attributes), tuple(values))
    connection.close()
    return kept


def assert_whole(before: Rows, jobs: int = JOBS) -> None:
    """Every trial that had ended is there as it was, and every one was tried once."""
    after = ended()
    assert {number: after.get(number) for number in before} == before
    assert len(after) == jobs
    rows = read_csv(Path("study/trials.csv"))
    assert [row["state"] for row in rows] == ["Completed"] * jobs
    assert len({row["optimizer.lr"] for row in rows}) == jobs
    assert Path("study/best.yaml").is_file()


def wait_for(process: subprocess.Popen[str], beginning: str, count: int = 1) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        count -= line.startswith(beginning)
        if not count:
            return
    raise AssertionError(f"{beginning} was not said: {process.communicate()[1]}")


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(each) for each in text.split()]


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the pool: their parent is the server that forks them."""
    return [pid for child in children(process.pid) for pid in children(child)]


def working(process: subprocess.Popen[str]) -> list[int]:
    """As `workers`, waiting for the first."""
    deadline = time.monotonic() + 60
    while not (found := workers(process)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(process: subprocess.Popen[str]) -> None:
    """Kill the study alone, without waiting for the processes that it has started."""
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out


@pytest.mark.slow
def test_a_killed_study_goes_on_without_losing_or_repeating_a_trial(photos: Path) -> None:
    process = start(*heads(photos))
    wait_for(process, "trial ", 2)
    kill(process)
    first = ended()
    assert 2 <= len(first) < JOBS

    process = start(*heads(photos))
    wait_for(process, "trial ", 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "interrupted; the same command continues where it stopped"
    second = ended()
    assert first.items() <= second.items()
    assert len(second) < JOBS

    process = start(*heads(photos))
    wait_for(process, f"going on: {len(second)} trials have ended before")
    for pid in working(process):
        os.kill(pid, signal.SIGKILL)
    finish(process)
    assert_whole(second)


@pytest.mark.slow
def test_killed_trainings_of_whole_networks_go_on(photos: Path) -> None:
    more = ["finetune=full", "trainer.limit_train_batches=1", SPACE[0], "trainer.max_epochs=3"]
    typed = words(photos, *more, "hpo.max_jobs=4", "hpo.strategy=random")
    process = start(*typed)
    os.kill(working(process)[0], signal.SIGKILL)
    wait_for(process, "trial ", 1)
    os.kill(working(process)[0], signal.SIGKILL)
    kill(process)
    first = ended()
    assert first
    finish(start(*typed))
    assert_whole(first, 4)


@pytest.mark.slow
def test_no_process_trains_on_for_a_study_that_is_dead(photos: Path) -> None:
    """An epoch may be hours long, and the same command would find its folder taken."""
    more = ["finetune=full", SPACE[0], "data.image_size=448", "trainer.max_epochs=2"]
    process = start(*words(photos, *more, "hpo.max_jobs=2", "data.batch_size=24"))
    orphans = working(process)
    deadline = time.monotonic() + 60
    while not list(Path("study/trials").glob("*/config.yaml")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kill(process)
    time.sleep(2)
    left = [pid for pid in orphans if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []

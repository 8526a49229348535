"""Every command that talks to the cloud, behind a proxy that spoils what goes to and fro: how does each end?

    python benchmarks/cloud_faults.py faults=5000 seed=1 folder=runs/cloud-faults

types the commands of tests/faulty/commands.py at a rehearsal behind tests/faulty/proxy.py until so many faults have met
their requests: dropped connections before and after the work was done, late, slow and cut answers, throttling, errors of
the service, a wrong clock, and a sign-in page in place of an answer; single ones, storms and outages. A command must end
with 0 and the undisturbed result, or with 2 and one message that names everything it has left that may cost, and says
how to go on; typed again without faults, it must end as if nothing had been. Jobs are stand-ins that end at once; pauses
between attempts are shortened. What was played is kept in `folder`, and an interrupted command continues.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from faulty.commands import SCENARIOS, Player, Scenario, impatient
from faulty.plans import KINDS, Plan, at, outage, storm
from faulty.stage import stage
from sagelight.bundle.provenance import cpu_name
from sagelight.files import write_json

DEFAULTS = {
    "faults": "5000",
    "seed": "1",
    "folder": "runs/cloud-faults",
    "processes": "2",
    "only": "",
}
FOR_EVER = 10**6
TURNS = 2


def main() -> None:
    asked = DEFAULTS | dict(word.split("=", 1) for word in sys.argv[1:])
    if "worker" in asked:
        _play(asked)
        return
    folder, count = Path(asked["folder"]), int(asked["processes"])
    folder.mkdir(parents=True, exist_ok=True)
    words = [f"{key}={value}" for key, value in asked.items()]
    workers = [
        subprocess.Popen([sys.executable, __file__, *words, f"worker={number}"])
        for number in range(count)
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended; the same command continues"))
    try:
        ended = [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            worker.terminate()
    if any(ended):
        sys.exit(f"processes that played ended with {ended}")
    played = [row for number in range(count) for row in _rows(folder, asked["seed"], number)]
    print("\n".join(_table(played)))
    write_json(folder / "cloud_faults.json", _content(played, asked))
    sys.exit(any(row["wrong"] for row in played))


def _play(asked: dict[str, str]) -> None:
    """One process: play until its share of the faults is injected."""
    ending: list[int] = []

    def end(number: int, frame: object) -> None:
        # A command that is being typed takes this for its own end; its servers end with the block.
        ending.append(number)
        raise SystemExit(1)

    signal.signal(signal.SIGTERM, end)
    number, count = int(asked["worker"]), int(asked["processes"])
    wanted = -(-int(asked["faults"]) // count)
    before = list(_rows(Path(asked["folder"]), asked["seed"], number))
    injected, index = sum(sum(row["injected"].values()) for row in before), len(before)
    names = [name for name in SCENARIOS if asked["only"] in name]
    file = _file(Path(asked["folder"]), asked["seed"], number).resolve()
    with (
        tempfile.TemporaryDirectory(prefix="cloud-faults-") as scratch,
        file.open("a", encoding="utf-8") as rows,
    ):
        os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
        (Path(scratch) / "stage").mkdir()
        with stage(Path(scratch) / "stage") as made:
            player = Player(made, Path(scratch), impatient)
            while injected < wanted:
                # The same command some times in turn, so that what comes before it is typed once.
                turn = index // TURNS + number * len(names) // count
                scenario = SCENARIOS[names[turn % len(names)]]
                row = _row(player, scenario, f"{asked['seed']}-{number}-{index}")
                if ending:
                    raise SystemExit(1)
                rows.write(json.dumps(row) + "\n")
                rows.flush()
                injected, index = injected + sum(row["injected"].values()), index + 1
                if row["wrong"] or index % 50 == 0:
                    print(f"process {number}: {index} commands, {injected} faults", flush=True)
                for wrong in row["wrong"]:
                    print(f"  {row['command']} under {row['plan']}: {wrong}", flush=True)


def _row(player: Player, scenario: Scenario, seed: str) -> dict[str, Any]:
    player.undisturbed(scenario)
    said, plan = _plan(random.Random(seed), player.asked[scenario.name])
    verdict = player.play(scenario, plan)
    injected = {f"{kind}: {operation}": n for (operation, kind), n in verdict.injected.items()}
    return {
        "command": scenario.name,
        "plan": f"{said} ({seed})",
        "code": verdict.code,
        "wrong": verdict.wrong,
        "message": verdict.message,
        "seconds": round(verdict.seconds, 2),
        "injected": injected,
    }


def _plan(chance: random.Random, asked: dict[str, int]) -> tuple[str, Plan]:
    kind, style = chance.choice(KINDS), chance.random()
    if style < 0.7:
        rate, seed = chance.choice((0.2, 0.4, 0.6, 0.7)), chance.randrange(10**9)
        return f"storm of {rate}", storm(seed, rate)
    times = chance.choice((1, 2, 4, 12, FOR_EVER))
    if style < 0.85:
        operation = chance.choice(sorted(asked))
        nth = chance.randint(1, asked[operation])
        return f"{kind} at {operation} {nth}, {times} times", at(operation, nth, kind, times)
    first = chance.randint(1, sum(asked.values()))
    return f"{kind} from request {first} on, {times} times", outage(first, times, kind)


def _file(folder: Path, seed: str, number: int) -> Path:
    return folder / f"played-{seed}-{number}.jsonl"


def _rows(folder: Path, seed: str, number: int) -> Iterator[dict[str, Any]]:
    path = _file(folder, seed, number)
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        yield json.loads(line)


def _kinds(rows: list[dict[str, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in rows:
        for what, count in row["injected"].items():
            found[what.partition(": ")[0]] += count
    return found


def _table(played: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{'command':22} {'typed':>6} {'faults':>7} {'right':>6} {'message':>8} {'wrong':>6}"
    for name in [*SCENARIOS, ""]:
        rows = [row for row in played if name in ("", row["command"])]
        if rows:
            yield (
                f"{name or 'all':22} {len(rows):6} {_kinds(rows).total():7} {sum(r['code'] == 0 for r in rows):6} "
                f"{sum(r['code'] == 2 for r in rows):8} {sum(bool(r['wrong']) for r in rows):6}"
            )
    yield ", ".join(f"{kind} {count}" for kind, count in _kinds(played).most_common())
    yield f"{os.cpu_count()} cores, {cpu_name()}"


def _content(played: list[dict[str, Any]], asked: dict[str, str]) -> dict[str, Any]:
    return {
        "machine": f"{os.cpu_count()} cores, {cpu_name()}",
        "when": time.strftime("%Y-%m-%d"),
        "seed": asked["seed"],
        "commands": {
            name: {
                "typed": len(rows),
                "faults": dict(_kinds(rows)),
                "right": sum(row["code"] == 0 for row in rows),
                "message": sum(row["code"] == 2 for row in rows),
            }
            for name in SCENARIOS
            if (rows := [row for row in played if row["command"] == name])
        },
        "faults": dict(_kinds(played)),
        "wrong": [row for row in played if row["wrong"]],
    }


if __name__ == "__main__":
    main()

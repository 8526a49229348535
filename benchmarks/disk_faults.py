"""Commands on a disk that is full, or cannot be written: how does each end, and does it end right with room again?

    python benchmarks/disk_faults.py faults=200 seed=1 folder=runs/disk-faults

types the commands of this machine's door, and `fetch`, in a small file system of its own that holds so many bytes or
so many files as chance says, less than the command needs, or that nobody may write; needs the right to mount one. A
command must end with 0 and the undisturbed result, or with 2 and one message that says how to go on; typed again
with room, it must leave what the undisturbed one leaves. What was played is kept in `folder`, and an interrupted
command continues.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from bundles import make_bundle, make_photos
from faulty.stage import Stage, stage
from sagelight.bundle.provenance import cpu_name
from sagelight.cli import main as here
from sagelight.cloud.door import main as cloud
from sagelight.files import write_json
from sagelight.rehearsal.command import ROLE

DEFAULTS = {"faults": "200", "seed": "1", "folder": "runs/disk-faults", "only": ""}
TINY = (
    "experiment=squeezenet model.backbone=squeezenet1_1 model.weights=none data.image_size=32 data.batch_size=8 "
    "data.num_workers=0 trainer.precision=32-true data.root={photos} trainer.max_epochs=1 trainer.accelerator=cpu"
)
COMMANDS = {
    "check": "check data.root={photos}",
    "stats": "stats data.root={photos}",
    "prepare": "prepare data.root={photos} output=shards",
    "predict": "predict bundle={bundle} input={photos} output=labels.csv",
    "evaluate": "evaluate bundle={bundle} data.root={photos}",
    "fetch": "fetch job={job} output=fetched",
    "train": f"{TINY} run_dir=run",
    "train heads": f"{TINY} finetune=head augment=none callbacks.ema_decay=0 run_dir=run",
}  # fmt: skip
WAY_ON = re.compile(r"\b(Type|Make|Repeat|repeat|Free)\b")
ROOM = "size=1g"


def main() -> None:
    asked = DEFAULTS | dict(word.split("=", 1) for word in sys.argv[1:])
    folder = Path(asked["folder"]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"played-{asked['seed']}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    with tempfile.TemporaryDirectory() as scratch, file.open("a") as out:
        root = Path(scratch)
        (root / "stage").mkdir()
        with stage(root / "stage") as made:
            player = Player(made, root)
            names = [name for name in COMMANDS if asked["only"] in name]
            while len(rows) < int(asked["faults"]):
                name = names[len(rows) % len(names)]
                row = player.play(name, random.Random(f"{asked['seed']}-{len(rows)}"))
                rows.append(row)
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(
                    f"{len(rows)} {name}, {row['disk']}: {row['code']}, {row['message']}",
                    *row["wrong"],
                    flush=True,
                )
    machine = f"{os.cpu_count()} cores, {cpu_name()}"
    print("\n".join(_table(rows)), machine, sep="\n")
    write_json(
        folder / "disk_faults.json",
        {"machine": machine, "when": time.strftime("%Y-%m-%d"), "rows": rows},
    )
    sys.exit(any(row["wrong"] for row in rows))


class Player:
    """Types commands in file systems that fail."""

    def __init__(self, made: Stage, root: Path) -> None:
        make_photos(root / "photos", each=6)
        make_bundle(root / "bundle")
        self._root, self._disk, self._stage = root, root / "disk", made
        self._disk.mkdir()
        self._known: dict[str, tuple[Any, int, int]] = {}
        self._places = {"photos": root / "photos", "bundle": root / "bundle", "job": ""}
        with self._mounted(ROOM):
            words = f"{TINY} run_dir=run cloud.follow=false"
            code, said = self._typed(cloud, words)
            assert code == 0, said
            self._places["job"] = next(iter(made.costly()))
            made.state()

    def play(self, name: str, chance: random.Random) -> dict[str, Any]:
        """One command in one failing file system, and again with room."""
        expected, needed, files = self._undisturbed(name)
        disk = chance.choice(
            [f"size={chance.randint(1, needed // 4096 + 1) * 4096}"] * 3
            + [f"{ROOM},nr_inodes={chance.randint(2, files + 2)}", f"{ROOM},ro"]
        )
        with self._mounted(disk):
            code, said = self._run(name)
            wrong = list(_wrong(code, said))
            # An undisturbed command finds the folder as the disturbed one has left it.
            self._mount(f"remount,rw,{ROOM},nr_inodes=100000")
            if code:
                again, said_again = self._run(name)
                if again:
                    wrong.append(f"the same command with room ended with {again}: {said_again}")
            found = self._left()
        if found != expected:
            more, less = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
            other = [n for n in found if n in expected and found[n] != expected[n]]
            wrong.append(f"too much: {more}, missing: {less}, other: {other}")
        message = next((line for line in said.splitlines() if line.startswith("error: ")), "")
        return {"command": name, "disk": disk, "code": code, "wrong": wrong, "message": message}

    def _undisturbed(self, name: str) -> tuple[Any, int, int]:
        if name not in self._known:
            with self._mounted(ROOM):
                code, said = self._run(name)
                assert code == 0, said
                used = os.statvfs(self._disk)
                needed = (used.f_blocks - used.f_bfree) * used.f_frsize
                self._known[name] = self._left(), needed, used.f_files - used.f_ffree
        return self._known[name]

    def _run(self, name: str) -> tuple[int, str]:
        return self._typed(cloud if name == "fetch" else here, COMMANDS[name])

    def _typed(self, door: Callable[[list[str]], int], words: str) -> tuple[int, str]:
        said = io.StringIO()
        exported = {
            **self._stage.variables(direct=True),
            "SAGEMAKER_ROLE": ROLE,
            "XDG_CACHE_HOME": str(self._disk / ".cache"),
            "TMPDIR": str(self._disk),
        }
        filled = [word.format(**self._places) for word in words.split()]
        with (
            mock.patch.dict(os.environ, exported),
            mock.patch("tempfile.tempdir", None),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            try:
                return door(filled), said.getvalue()
            except BaseException:
                return 1, said.getvalue() + traceback.format_exc()

    def _left(self) -> dict[str, int]:
        """The files that were left, but for caches; of tables their sizes."""
        return {
            path.relative_to(self._disk).as_posix(): path.stat().st_size
            if path.suffix == ".csv" and path.name != "metrics.csv"
            else 0
            for path in sorted(self._disk.rglob("*"))
            # The profiler's files bear the minute that they were begun in.
            if path.is_file() and not {".cache", "incremental"} & {*path.parts}
        }

    @contextlib.contextmanager
    def _mounted(self, options: str) -> Iterator[None]:
        """A new file system, and this process in it."""
        self._mount(options)
        os.chdir(self._disk)
        try:
            yield
        finally:
            os.chdir(self._root)
            subprocess.run(["umount", "--lazy", str(self._disk)], check=True)

    def _mount(self, options: str) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._disk)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(
                f"error: no file system can be mounted: {done.stderr.strip()}. Type it as root."
            )


def _wrong(code: int, said: str) -> Iterator[str]:
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if "Traceback" in said:
        yield said[-1500:]
    elif code not in (0, 2) or len(errors) != (code == 2):
        yield f"exit code {code} and {len(errors)} messages: {said}"
    elif errors and not WAY_ON.search(errors[0]):
        yield f"no way to go on: {errors[0]}"


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{'command':14} {'faults':>7} {'right':>6} {'message':>8} {'wrong':>6}"
    for name in [*COMMANDS, ""]:
        those = [row for row in rows if name in ("", row["command"])]
        counts = (sum(row["code"] == code for row in those) for code in (0, 2))
        yield f"{name or 'all':14} {len(those):7} {next(counts):6} {next(counts):8} {sum(bool(r['wrong']) for r in those):6}"


if __name__ == "__main__":
    main()

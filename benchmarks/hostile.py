"""Hostile requests against a real server: every one must be refused with 4xx and a reason, in bounded time and memory.

    python benchmarks/hostile.py [COUNT] [SEED] [bundle=DIR]

sends COUNT (10,000) requests of nineteen families on sixteen connections, and a good photo after each hundred. The
server may open no connection, start no process, write no file and unpickle nothing: an audit hook in it sees to that.
Exits with 1 when anything was not so.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
# In place of this folder, whose serving.py would hide that of the tests.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")

from bundles import make_bundle
from sagelight.bundle.provenance import cpu_name
from serving.attacks import attacks
from serving.siege import besiege, table


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    given = [word.removeprefix("bundle=") for word in sys.argv[1:] if word.startswith("bundle=")]
    count, seed = [*numbers, *(10_000, 1)[len(numbers) :]]
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(given[0]) if given else make_bundle(Path(scratch) / "bundle")
        started = time.monotonic()
        siege = besiege(bundle, attacks(count, seed), Path(scratch) / "forbidden.txt", _watch)
        seconds = time.monotonic() - started
    print(table(siege))
    refused = sum(400 <= (each.status or 0) < 500 for each in siege.outcomes)
    failed = sum((each.status or 0) >= 500 for each in siege.outcomes)
    closed = sum(each.status is None for each in siege.outcomes)
    whole = sum(each.status == 200 for each in siege.outcomes)
    print(
        f"\n{count:,} requests, seed {seed}: {refused:,} answered 4xx, {failed} 5xx, {closed:,} closed where HTTP "
        f"has no answer, {whole:,} photos whole in spite of changed bytes; {siege.good} good photos answered between; "
        f"at most {siege.memory['VmHWM']} MiB, {siege.memory['VmRSS']} at the end; {seconds:.0f} s on "
        f"{os.cpu_count()} cores, {cpu_name()}"
    )
    for line in siege.violations[:40]:
        print(f"WRONG: {line}")
    sys.exit(bool(siege.violations))


def _watch(done: int) -> None:
    if done % 1000 == 0 and sys.stderr.isatty():
        print(f"{done:,}", file=sys.stderr)


if __name__ == "__main__":
    main()

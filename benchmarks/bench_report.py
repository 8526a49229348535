"""What the peers' seconds come to: rates, ratios with their spread, targets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench_plan import BASELINE, OURS, Running
from serving_bundle import target

MEASURES = {
    "pipeline": "loading the training photos five times, in normalised batches",
    "frozen": "one epoch of the head, on a backbone that stays as it is",
    "full": "one epoch of everything",
    "five": "five epochs of the head, from the command to the last",
    "start": "from the start of the process to the first backward, of 32 photos at 64 px",
}
CACHED, PURE = "sagelight cached", "pure step"


@dataclass(frozen=True)
class Ratio:
    """Another's seconds over ours at one measure, over the rounds: above 1 ours is faster."""

    peer: str
    measure: str
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Report:
    """Each peer's figures by measure; `clock` is what is compared, always of the same round."""

    clock: str
    rows: list[dict[str, Any]]

    def ratio(self, peer: str, measure: str, ours: str = OURS) -> Ratio | None:
        """Of another and a way of ours; None where one of them was not measured."""
        rounds = {row["peer"]: row["rounds"] for row in self.rows if row["measure"] == measure}
        if peer == ours or peer not in rounds or ours not in rounds:
            return None
        pairs = zip(rounds[peer], rounds[ours], strict=True)
        each = [theirs[self.clock] / mine[self.clock] for theirs, mine in pairs]
        return Ratio(peer, measure, statistics.median(each), min(each), max(each))

    @property
    def ratios(self) -> list[Ratio]:
        found = (self.ratio(row["peer"], row["measure"]) for row in self.rows)
        return [ratio for ratio in found if ratio is not None]


def report(peers: Sequence[Running], imports: list[dict[str, Any]], clock: str) -> Report:
    """What was found, to be compared by `clock`: seconds or processor_seconds."""
    found = {peer.kind.name: peer.found for peer in peers}
    if imports:
        found["imports alone"] = {"start": imports}
    rows = [
        _row(name, measure, answers)
        for name, by_measure in found.items()
        for measure, answers in by_measure.items()
    ]
    return Report(clock, rows)


def show(found: Report) -> None:
    """Tables of rates and of ratios, on stdout."""
    for measure in [
        measure for measure in MEASURES if any(r.measure == measure for r in found.ratios)
    ]:
        print(f"\n{measure}: {MEASURES[measure]}")
        for row in (row for row in found.rows if row["measure"] == measure):
            rate = f"{row['photos_per_second']:8.1f} photos/s" if row["photos"] else " " * 17
            ratio = found.ratio(row["peer"], measure)
            times = f"  takes {ratio} times ours" if ratio else ""
            print(
                f"  {row['peer']:<25}{row['seconds']:8.2f} s{row['processor_seconds']:8.2f} processor s{rate}{times}"
            )


def targets(found: Report, units: str) -> list[dict[str, Any]]:
    """The issue's figures against the plain loop, for a CPU with `units`: avx2, avx512 or amx.

    That of the pipeline is benchmarks/pipeline.py's, which leaves normalising to the device; here all normalise.
    """
    print(f"\nagainst the {BASELINE}, {units}")
    wanted = [
        (OURS, "frozen", {"avx2": 1.0, "avx512": 1.5, "amx": 4.5}),
        (OURS, "full", {"avx2": 1.0, "avx512": 1.15, "amx": 3.0}),
        (CACHED, "five", {"avx2": 8.0, "avx512": 8.0, "amx": 25.0}),
    ]
    listed = []
    for ours, measure, least in wanted:
        ratio = found.ratio(BASELINE, measure, ours)
        if ratio is not None:
            listed.append(target(f"{measure}, {ours}", ratio.median, least=least[units]))
    imports = found.ratio("imports alone", "start")
    if imports is not None:
        listed.append(target("start over the imports alone", 1 / imports.median, most=1.35))
    return listed


def shares(found: Report) -> dict[str, float]:
    """Ours at `full` as a share of the pure step's rate, and both as shares of the device's matrix rate."""
    rows = {row["peer"]: row for row in found.rows if row["measure"] == "full"}
    if OURS not in rows or PURE not in rows:
        return {}
    mine, pure = rows[OURS], rows[PURE]
    per_photo = pure["operations_a_photo"] / pure["matrix_rate"]
    shares = {
        "ours, of the pure step": mine["photos_per_second"] / pure["photos_per_second"],
        "ours, of the matrix rate": mine["photos_per_second"] * per_photo,
        "pure step, of the matrix rate": pure["photos_per_second"] * per_photo,
    }
    if "gpu_utilisation" in mine:
        shares["ours, the GPU's utilisation"] = mine["gpu_utilisation"] / 100
    print()
    for name, share in shares.items():
        print(f"  {100 * share:5.1f} %  {name}")
    return shares


def _row(name: str, measure: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    numbers = {
        key: statistics.median(answer[key] for answer in answers)
        for key, value in answers[0].items()
        if isinstance(value, int | float) and all(key in answer for answer in answers)
    }
    return {
        "peer": name,
        "measure": measure,
        **numbers,
        "photos_per_second": numbers["photos"] / numbers["seconds"],
        "rounds": [{k: v for k, v in answer.items() if k != "does"} for answer in answers],
    }

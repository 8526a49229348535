"""Ours against the peers as installed from the registry, on the same photos, network, epochs and batches: `make bench`.

    python benchmarks/bench.py                                   240 photos made up, three rounds, every measure
    python benchmarks/bench.py data.root=DIR photos=1000 rounds=5 output=FILE.json
    python benchmarks/bench.py measures=pipeline,full peers=sagelight,timm

All do the same work: random crops that keep half of a photo or more, mirroring, validation after each epoch. Every peer is a process of its own (benchmarks/peers) that stands still while another is measured; the order turns from
round to round, and ratios are of the same round. On a CPU they are of processor seconds, on a GPU of seconds. Beside
FILE.json a picture FILE.svg is drawn. More settings: side=224 batch=32 workers=0 threads=1 device=auto.
`make peers` makes the environment of those that are not ours; without it they are left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench_chart import write_chart
from bench_photos import lay_out, save_weights
from bench_plan import KINDS, OURS, THEIRS, Kind, Running, measure, running, starts
from bench_report import MEASURES, Report, report, shares, show, targets
from serving_bundle import machine

from sagelight.files import write_json

DEFAULTS = {
    "data.root": "",
    "photos": "240",
    "rounds": "3",
    "output": "runs/bench/bench.json",
    "measures": ",".join(MEASURES),
    "peers": ",".join(kind.name for kind in KINDS),
    "side": "224",
    "batch": "32",
    "workers": "0",
    "threads": "1",
    "device": "auto",
}


def main() -> None:
    options = _options(sys.argv[1:])
    kinds, rounds, threads = _kinds(options), int(options["rounds"]), int(options["threads"])
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        task = _task(options, scratch)
        peers = stack.enter_context(running(kinds, scratch, threads))
        measures = options["measures"].split(",")
        measure(peers, task, measures, rounds)
        imports = starts(peers, task, rounds, threads, scratch) if "start" in measures else []
    clock = "processor_seconds" if task["device"] == "cpu" else "seconds"
    _tell(report(peers, imports, clock), peers, options, _described(options, task))


def _tell(found: Report, peers: list[Running], options: dict[str, str], described: str) -> None:
    output = Path(options["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}, {time.strftime('%F %H:%M')}\n{described}")
    does = {peer.kind.name: " ".join([_does(peer), *peer.kind.words]) for peer in peers}
    print(*(f"  {name}: {text}" for name, text in does.items()), sep="\n")
    show(found)
    content = {
        "machine": machine(),
        "device": described,
        "settings": options,
        "versions": {name: version(name) for name in ("torch", "torchvision", "pytorch-lightning")},
        "does": does,
        "clock": found.clock,
        "rows": found.rows,
        "ratios": [vars(ratio) for ratio in found.ratios],
        "shares": shares(found),
        "targets": targets(found, _units()) if found.clock == "processor_seconds" else [],
    }
    write_json(output, content)
    write_chart(output.with_suffix(".svg"), found, machine(), described)
    print(f"\n{output}\n{output.with_suffix('.svg')}")


def _options(words: list[str]) -> dict[str, str]:
    given = dict(word.split("=", 1) for word in words if "=" in word)
    unknown = [word for word in words if word.split("=", 1)[0] not in DEFAULTS or "=" not in word]
    if unknown:
        raise SystemExit(
            f"error: {unknown[0]}: choose among {', '.join(f'{k}=' for k in DEFAULTS)}."
        )
    return DEFAULTS | given


def _kinds(options: dict[str, str]) -> list[Kind]:
    wanted = options["peers"].split(",")
    known = {kind.name: kind for kind in KINDS}
    for name in wanted:
        if name not in known:
            raise SystemExit(f"error: peers={name}: choose among {', '.join(known)}.")
    measures = set(options["measures"].split(","))
    if unknown := measures - MEASURES.keys():
        raise SystemExit(f"error: measures={unknown.pop()}: choose among {', '.join(MEASURES)}.")
    kinds = [kind for kind in KINDS if kind.name in wanted or kind.name == OURS]
    kinds = [kind for kind in kinds if measures & set(kind.measures)]
    absent = [kind.name for kind in kinds if kind.theirs and not THEIRS.exists()]
    if absent:
        print(f"left out: {', '.join(absent)}; `make peers` installs them", file=sys.stderr)
    return [kind for kind in kinds if kind.name not in absent]


def _task(options: dict[str, str], scratch: Path) -> dict[str, Any]:
    import torch

    batch = int(options["batch"])
    source = Path(options["data.root"]) if options["data.root"] else None
    root = lay_out(scratch / "photos", source, int(options["photos"]), batch)
    small = lay_out(scratch / "small", None, batch * 5 // 4 + 6, batch)
    device = options["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "root": str(root),
        "small": str(small),
        "weights": str(save_weights(scratch / "resnet18")),
        "scratch": str(scratch / "written"),
        "side": int(options["side"]),
        "batch": batch,
        "workers": int(options["workers"]),
        "device": device,
    }


def _described(options: dict[str, str], task: dict[str, Any]) -> str:
    import torch

    device = torch.cuda.get_device_name() if task["device"] == "cuda" else "CPU"
    return (
        f"{device}, resnet18 at {options['side']} px, {options['photos']} photos, batches of {options['batch']}, "
        f"{options['workers']} loader processes, {options['threads']} thread(s), {options['rounds']} round(s)"
    )


def _does(peer: Running) -> str:
    answers = [answer for each in peer.found.values() for answer in each if "does" in answer]
    return str(answers[0]["does"]) if answers else ""


def _units() -> str:
    import torch

    from sagelight.training.machine import probe

    if probe().fast_bf16:
        return "amx"
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ("AVX2", "SSE41", "AVX2_VNNI")
    return "avx512" if torch.cpu.get_capabilities().get("avx512_f") and not limited else "avx2"


if __name__ == "__main__":
    main()

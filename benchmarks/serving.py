"""A bundle behind HTTP: does every way give the same answers, how fast, how soon, and for how long.

    python benchmarks/serving.py bundle runs/serving/bundle
    python benchmarks/serving.py parity RUN/bundle data.root=DIR
    python benchmarks/serving.py load   BUNDLE data.root=DIR [seconds=4] [rounds=5] [litserve=PYTHON]
    python benchmarks/serving.py cold   BUNDLE data.root=DIR [rounds=5] [litserve=PYTHON]
    python benchmarks/serving.py soak   BUNDLE data.root=DIR [minutes=5]

`bundle` exports a ResNet-18 with random weights and 10 labels: its speed is that of any other, its labels mean nothing.
`parity` compares the test photos of DIR; a run that finished leaves its bundle beside the evaluation that it is compared
with. `load` keeps the servers running, all but one of them stopped (SIGSTOP), and goes round them in turn. TorchServe is
measured where `make toolkits` has made its environment and Java is there, LitServe where serving_litserve.py says how.
Each writes what it prints to `output=`, runs/serving/WORD.json by default, and ends with 1 where a target is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import serving_cold
import serving_parity
import serving_soak
import serving_throughput
from serving_bundle import write_random_bundle

from sagelight.files import write_json

WAYS: dict[str, Callable[[Path, dict[str, str]], dict[str, Any]]] = {
    "parity": serving_parity.parity,
    "load": serving_throughput.compare,
    "cold": serving_cold.cold,
    "soak": serving_soak.soak,
}


def main() -> None:
    word, bundle, *rest = sys.argv[1:]
    if word == "bundle":
        write_random_bundle(Path(bundle))
        return
    options = dict(option.split("=", 1) for option in rest)
    output = Path(options.pop("output", f"runs/serving/{word}.json"))
    found = WAYS[word](Path(bundle), options)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, found)
    print(f"\nwritten: {output}")
    sys.exit(any(not target["held"] for target in found["targets"]))


if __name__ == "__main__":
    main()

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from debugging.trials import GRADIENT, healthy, leave_trial
from sagelight.cli import main


def leave(folder: str, size: float = 1.0) -> str:
    rng = np.random.default_rng(0)
    steps = [healthy(number, rng) for number in range(25)]
    for values in steps:
        values[GRADIENT] = values[GRADIENT] * np.float32(size)
    return str(leave_trial(Path(folder), steps))


def test_a_trial_is_judged_rule_by_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["debug", f"trial={leave('small', 1e-8)}", "output=found.json"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("small: 3 tensors, steps: 25 of TRAIN\n")
    assert (
        "IssuesFound     VanishingGradient: 25 values, 25 of them wrong: a layer's gradients"
        in said
    )
    assert "step 0 of TRAIN: gradient/ResNet_fc.weight: mean magnitude" in said
    assert "and 22 more" in said
    assert "NoIssuesFound   ExplodingTensor" in said
    assert "NotEvaluated    Overfit: the trial holds no losses of both" in said
    found = {v["name"]: v["status"] for v in json.loads(Path("found.json").read_text())["verdicts"]}
    assert found["VanishingGradient"] == "IssuesFound"


def test_parameters_are_typed_by_rule(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rules=[VanishingGradient]", "parameters={VanishingGradient: {threshold: 1e-12}}"]
    assert main(["debug", f"trial={leave('small', 1e-8)}", *words]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == ["NoIssuesFound   VanishingGradient: 25 values"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: debug needs trial. Type debug trial=DIR"),
        (["trial=none"], "error: trial=none is no trial"),
        (
            ["trial=none", "rules=[Overfits]"],
            "error: there is no rule Overfits. Did you mean Overfit",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["debug", *words]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_it_needs_neither_torch_nor_smdebug() -> None:
    folder = leave("trial")
    program = (
        "import sys; from sagelight.cli import main; "
        f"main(['debug', 'trial={folder}']); "
        "assert not {'torch', 'smdebug', 'boto3', 'google.protobuf'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from debugging.trainings import train
from debugging.trials import GRADIENT, healthy, leave_trial
from sagelight.cli import main
from sagelight.debugging.rules.catalogue import USUAL


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


def test_a_runs_folder_is_judged_by_the_trial_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run", "debugger").mkdir(parents=True)
    leave("run/debugger/trial", 1e-8)
    assert main(["debug", "trial=run", "rules=[VanishingGradient]"]) == 0
    of_the_run = capsys.readouterr().out
    assert of_the_run.startswith("run/debugger/trial: 3 tensors, steps: 25 of TRAIN\n")
    assert main(["debug", "trial=run/debugger/trial", "rules=[VanishingGradient]"]) == 0
    assert capsys.readouterr().out == of_the_run


def test_a_run_that_was_not_watched_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run", "checkpoints").mkdir(parents=True)
    assert main(["debug", "trial=run"]) == 2
    assert capsys.readouterr().err.startswith("error: trial=run is no trial")


def test_what_a_training_leaves_is_judged_as_it_was(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the rules and parameters of a training, `debug` comes to the verdicts in its findings.json."""
    run = train(photos, "run")
    theirs = json.loads((run / "debugger" / "findings.json").read_text())
    names = ",".join(USUAL)
    parameters = json.dumps({name: each for name, each in USUAL.items() if each}).replace('"', "")
    capsys.readouterr()
    words = [f"rules=[{names}]", f"parameters={parameters}", "output=found.json"]
    assert main(["debug", f"trial={run}", *words]) == 0
    assert "steps: 2 of EVAL, 6 of TRAIN" in capsys.readouterr().out
    assert json.loads(Path("found.json").read_text())["verdicts"] == theirs["verdicts"]


def test_a_rule_of_ones_own_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("rules_of_mine.py").write_text(
        "from sagelight.debugging.rules.base import Look, Rule\n"
        "class Raises(Rule):\n"
        "    means, advice = 'nothing', 'none'\n"
        "    def look(self, trial, moment):\n"
        "        raise ZeroDivisionError('by hand')\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    words = [f"trial={leave('trial')}", "rules=[rules_of_mine.Raises,VanishingGradient]"]
    assert main(["debug", *words]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "Error           Raises: ZeroDivisionError: by hand (look, line 5)"
    assert said[2] == "NoIssuesFound   VanishingGradient: 25 values"

"""debugger=smdebug: smdebug's own hook watches a real training, and smdebug reads what our own writer leaves of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compat.environment import NEEDS_SMDEBUG, read_by_smdebug, smdebug
from sagelight.debugging.trial import Trial
from stories.commands import TINY, run

pytestmark = NEEDS_SMDEBUG
LOSS = "CrossEntropyLoss_output_0"
WEIGHT = "Network_backbone.features.0.weight"
COMMON = ["train", *TINY, "check=off", "profiler=off", "trainer.max_epochs=2"]
# smdebug reads it in small letters.
EXPRESSION = "open('owned', 'w')"


def findings(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "debugger", "findings.json").read_text())
    return found


def assert_read_alike(folder: Path) -> dict[str, np.ndarray]:
    """Both readers read the same bits of a trial; what smdebug has read."""
    trial, read = Trial.open(folder), read_by_smdebug(folder)
    for name in ("losses", "weights", "gradients"):
        assert trial.names(collection=name) == read.pop(f"collection|{name}").tolist()
    for key, value in read.items():
        mode, step, name, *reduction = key.split("|")
        ours = trial.value(name, mode, int(step), *reduction)
        assert ours is not None
        assert (ours.dtype, ours.shape) == (value.dtype, value.shape)
        assert ours.tobytes() == value.tobytes()
    steps = {tuple(key.split("|")[:3]) for key in read}
    assert steps == {
        (mode, str(step), name)
        for name in trial.names()
        for mode in ("TRAIN", "EVAL")
        for step in trial.steps(name, mode)
    }
    assert trial.ended
    assert not trial.damaged
    return read


def test_smdebugs_hook_watches_a_training_and_leaves_no_trace_in_its_network(
    photos: Path,
) -> None:
    words = [*COMMON, f"data.root={photos}"]
    # The network is looked at after the last step, by the script.
    said = smdebug(
        "smdebug_trains.py",
        *words,
        "run_dir=watched",
        "debugger=smdebug",
        "debugger.parameters={LossNotDecreasing: {num_steps: 3}}",
    )
    assert "smdebug" not in said
    left = findings("watched")
    status = left["status"]
    assert status.pop("bytes") > 100_000
    assert status == {
        "sink": "smdebug",
        "folder": "watched/debugger/trial",
        "saved": {"TRAIN": 6, "EVAL": 2},
        "stopped": "",
    }
    points = {verdict["name"] for verdict in left["verdicts"] if verdict["points"]}
    assert points >= {
        *("VanishingGradient", "ExplodingTensor", "LossNotDecreasing", "Overfit"),
        *("UnchangedTensor", "AllZero"),
    }
    assert not [verdict for verdict in left["verdicts"] if verdict["status"] == "Error"]
    read = assert_read_alike(Path("watched", "debugger", "trial"))
    assert {key for key in read if LOSS in key} == {
        f"{mode}|{step}|{LOSS}"
        for mode, steps in (("TRAIN", 6), ("EVAL", 2))
        for step in range(steps)
    }
    assert f"TRAIN|0|gradient/{WEIGHT}|abs_mean" in read

    assert run(*words, "run_dir=alone", "debugger=off") == 0
    [watched, alone] = [
        Path(folder, "bundle", "model.safetensors").read_bytes() for folder in ("watched", "alone")
    ]
    assert watched == alone


def test_what_is_half_as_wide_is_recorded_and_nothing_is_evaluated(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiler = {
        "LocalPath": str(Path("profiled").absolute()),
        "DetailedProfilingConfig": EXPRESSION,
    }
    Path("profiler.json").write_text(json.dumps({"ProfilingParameters": profiler}))
    monkeypatch.setenv("SMPROFILER_CONFIG_PATH", str(Path("profiler.json").absolute()))
    outputs = {"include_regex": r"features\.0_output", "save_interval": "2"}
    hook = {
        "CollectionConfigurations": [
            {"CollectionName": "outputs", "CollectionParameters": outputs},
            {
                "CollectionName": "means",
                "CollectionParameters": {
                    "include_regex": r"features\.3.*_output",
                    "reductions": "mean,l2",
                    "save_interval": "1",
                },
            },
        ]
    }
    Path("hook.json").write_text(json.dumps(hook))
    words = [*COMMON, f"data.root={photos}", "run_dir=run", "trainer.precision=bf16-mixed"]
    said = smdebug(
        "smdebug_trains.py", *words, "debugger=smdebug", "debugger.hook_config=hook.json"
    )
    assert findings("run")["status"]["stopped"] == "", said
    assert not Path("owned").exists()
    read = assert_read_alike(Path("run", "debugger", "trial"))
    steps = [step for step in range(6) if f"TRAIN|{step}|backbone.features.0_output_0" in read]
    assert steps == [0, 2, 4]
    values = read["TRAIN|0|backbone.features.0_output_0"]
    assert values.dtype == np.float32
    # The lower half of every number is empty: it was a bfloat16.
    assert not (values.view(np.uint32) & 0xFFFF).any()
    assert values.any()
    assert read["TRAIN|1|backbone.features.3_output_0|l2"] > 0


def leave_hook(folder: str) -> str:
    weights = {"CollectionName": "weights", "CollectionParameters": {"save_interval": "1"}}
    Path("hook.json").write_text(
        json.dumps({"LocalPath": folder, "CollectionConfigurations": [weights]})
    )
    return "debugger.hook_config=hook.json"


def test_an_error_of_smdebugs_own_ends_the_watching_and_not_the_training(photos: Path) -> None:
    Path("file").touch()
    words = [*COMMON, f"data.root={photos}", "run_dir=run", "debugger=smdebug"]
    said = smdebug("smdebug_trains.py", *words, leave_hook("file/trial"))
    [line] = [line for line in said.splitlines() if line.startswith("debugger: watching")]
    assert line.startswith(
        "debugger: watching has stopped, training went on: smdebug met an error of its own: "
    )
    assert "Not a directory" in line
    assert Path("run", "bundle", "model.safetensors").exists()


def test_a_trial_of_somebody_elses_is_not_written_into(photos: Path) -> None:
    Path("theirs").mkdir()
    Path("theirs", "file").touch()
    words = [*COMMON, f"data.root={photos}", "run_dir=run", "debugger=smdebug"]
    said = smdebug("smdebug_trains.py", *words, leave_hook("theirs"), status=2)
    assert said.splitlines()[-1] == (
        "error: theirs holds a trial, and smdebug cannot go on with one. "
        "Type another LocalPath in hook.json."
    )


@pytest.mark.parametrize("raw", [False, True])
def test_smdebug_reads_every_tensor_that_our_writer_leaves_of_a_training(
    raw: bool, photos: Path
) -> None:
    words = [*COMMON, f"data.root={photos}", "run_dir=run", f"debugger.raw={raw}".lower()]
    assert run(*words, "debugger=default") == 0
    read = assert_read_alike(Path("run", "debugger", "trial"))
    assert len(read) > 500
    key = f"TRAIN|0|gradient/{WEIGHT}"
    assert (key in read) is raw
    assert (f"{key}|abs_mean" in read) is not raw

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sagelight.config.hyperparameters import encode
from sagelight.container.entry import job_config, main
from sagelight.container.paths import JobPaths


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobPaths:
    """The folders of a job below a folder of the test."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "ml"))
    monkeypatch.setenv("TRAINING_JOB_NAME", "study-001-abc")
    found = JobPaths.here()
    found.hyperparameters.parent.mkdir(parents=True)
    return found


def given(paths: JobPaths, *overrides: str, **tuned: str) -> None:
    values = {"sagemaker_program": "sagelight_job.py", **encode(overrides), **tuned}
    paths.hyperparameters.write_text(json.dumps(values))


def test_tuned_values_come_after_the_shared_ones(paths: JobPaths) -> None:
    given(
        paths,
        "experiment=resnet18",
        "optimizer.lr=0.5",
        **{"optimizer.lr": "1.0E-4", "model": '"resnet50"'},
    )
    config, overrides = job_config(paths)
    assert (config.optimizer.lr, config.model.backbone) == (1e-4, "resnet50")
    assert overrides[-2:] == ["model=resnet50", "optimizer.lr=1.0E-4"]


def test_the_contracts_folders_are_those_of_this_job(paths: JobPaths) -> None:
    given(
        paths,
        "experiment=resnet18",
        "data.root=/opt/ml/input/data/training",
        "model.weights=/opt/ml/input/data/weights/own.pth",
        sagelight_run="run",
    )
    config, _ = job_config(paths)
    assert config.data.root == str(paths.base / "input/data/training")
    assert config.model.weights == str(paths.base / "input/data/weights/own.pth")
    assert config.run_dir == str(paths.base / "checkpoints/run")


def test_a_trial_keeps_its_checkpoints_under_its_own_name(paths: JobPaths) -> None:
    given(paths, "experiment=digits")
    assert job_config(paths)[0].run_dir.endswith("checkpoints/study-001-abc")


@pytest.mark.parametrize(("sent", "expected"), [(True, "resnet18.pth"), (False, "default")])
def test_torchvisions_weights_are_taken_from_the_channel(
    paths: JobPaths, sent: bool, expected: str
) -> None:
    given(paths, "experiment=resnet18", "data.root=/opt/ml/input/data/training")
    if sent:
        paths.channel("weights").mkdir(parents=True)
        (paths.channel("weights") / "resnet18.pth").write_bytes(b"")
    assert Path(job_config(paths)[0].model.weights).name == expected


def test_a_refusal_is_written_where_sagemaker_reads_it(
    paths: JobPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    given(paths, "experiment=resnet18", "optimizer.lr=-1")
    assert main() == 2
    message = "error: optimizer.lr=-1.0: must be greater than 0. The default is 0.003."
    assert paths.failure.read_text() == message
    assert capsys.readouterr().err.strip() == message


@pytest.mark.parametrize("content", [None, "{half"])
def test_outside_a_job_it_says_what_it_is_for(
    paths: JobPaths, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        paths.hyperparameters.write_text(content)
    assert main() == 2
    assert "this program runs inside SageMaker training jobs" in capsys.readouterr().err


def asked(paths: JobPaths, **content: Any) -> None:
    paths.hook_config.write_text(json.dumps({"S3OutputPath": "s3://bucket/jobs", **content}))


def test_without_debugger_no_hook_config_is_set(paths: JobPaths) -> None:
    given(paths, "experiment=digits")
    assert job_config(paths)[0].debugger.hook_config is None


def test_debuggers_file_decides_what_is_kept(paths: JobPaths) -> None:
    given(paths, "experiment=digits")
    asked(paths, LocalPath=paths.inside("/opt/ml/output/tensors"))
    assert job_config(paths)[0].debugger.hook_config == str(paths.hook_config)


@pytest.mark.parametrize("named", [{"LocalPath": "/opt/ml/output/tensors"}, {}])
def test_the_trial_lies_where_debugger_looks(paths: JobPaths, named: dict[str, str]) -> None:
    given(paths, "experiment=digits")
    asked(paths, HookParameters={"save_interval": "5"}, **named)
    config, _ = job_config(paths)
    assert config.debugger.hook_config is not None
    read = json.loads(Path(config.debugger.hook_config).read_text())
    assert read["LocalPath"] == str(paths.base / "output" / "tensors")
    assert read["HookParameters"] == {"save_interval": "5"}


def test_rules_that_aws_alone_has_are_left_to_it(paths: JobPaths) -> None:
    rules = "debugger.rules=[Overfit,OnlyAws]"
    parameters = "debugger.parameters={OnlyAws: {threshold: 60}, Overfit: {patience: 2}}"
    given(paths, "experiment=digits", rules, parameters, "debugger.cloud=true")
    debugger = job_config(paths)[0].debugger
    assert debugger.rules == ["Overfit"]
    assert debugger.parameters == {"Overfit": {"patience": 2}}

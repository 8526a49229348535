"""The SageMaker journey, rehearsed: train, tune, retrain, fetch, and get what the local run gets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from sagelight.cloud.door import main as cloud
from stories.commands import ROOT, TINY, hear_ctrl_c, read_csv, run

DOOR = ROOT / "launch" / "sagemaker.py"
SMALL = [
    "experiment=digits",
    "model.backbone=squeezenet1_1",
    "trainer.limit_train_batches=4",
    "optimizer.lr=0.002",
]


def figures(folder: Path) -> dict[str, float]:
    """What a run measured, without what a clock measured."""
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return {k: v for k, v in found.items() if k not in ("train_seconds", "images_per_second")}


def test_a_study_is_rehearsed_and_its_best_is_the_local_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *SMALL,
        "hpo=true",
        "trainer.max_epochs=range(1,3)",
        "data.batch_size=choice(32,64)",
        "hpo.max_jobs=3",
        "hpo.max_parallel_jobs=2",
        "hpo.retrain=true",
    ]
    study = tmp_path / "study"
    assert cloud([*words, "cloud=rehearsal", f"run_dir={study}"]) == 0
    said = capsys.readouterr().out
    assert "maximize val/accuracy, bayesian, 3 trials, 2 at a time" in said

    rows = read_csv(study / "trials.csv")
    assert [row["state"] for row in rows] == ["Completed"] * 3
    assert all(row["trainer.max_epochs"] in "12" for row in rows)
    best = max(rows, key=lambda row: float(row["objective"]))

    assert run(f"experiment={study / 'best.yaml'}", "run_dir=local") == 0
    assert figures(study / "retrained") == figures(Path("local"))
    assert figures(Path("local"))["val/accuracy"] == pytest.approx(
        float(best["objective"]), abs=1e-5
    )

    bundle = study / "retrained" / "bundle"
    assert run("evaluate", f"bundle={bundle}", "data=digits") == 0
    provenance = json.loads((bundle / "bundle.json").read_text())["provenance"]
    assert provenance["command"].startswith("python launch/sagemaker.py experiment=digits ")
    assert (study / "retrained" / "report.html").is_file()


def test_a_study_of_frozen_heads_is_rehearsed_as_one_job(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *TINY,
        f"data.root={photos}",
        "finetune=head",
        "augment=none",
        "callbacks.ema_decay=0",
        "-m",
        "optimizer.lr=tag(log,interval(0.001,0.1))",
        "trainer.max_epochs=range(1,4)",
        "hpo.max_jobs=4",
        "hpo.retrain=true",
    ]
    study = tmp_path / "study"
    # Whatever asked for S3 from inside the job would find nobody.
    walls = [
        "cloud.isolated=true",
        "cloud.subnets=[subnet-0a1b]",
        "cloud.security_groups=[sg-0a1b]",
        "cloud.image=own",
    ]
    assert cloud([*words, "cloud=rehearsal", *walls, f"run_dir={study}"]) == 0
    said = capsys.readouterr().out
    assert "CreateTrainingJob squeezenet-" in said
    assert "backend   job: the backbone is frozen" in said
    rows = read_csv(study / "trials.csv")
    assert [row["state"] for row in rows] == ["Completed"] * 4
    assert (study / "report.html").is_file()

    assert run(f"experiment={study / 'best.yaml'}", "run_dir=local") == 0
    # The features may differ in their last bits: the job's threads are others than those of the tests.
    assert figures(study / "retrained") == pytest.approx(figures(Path("local")), abs=1e-5)
    assert (study / "retrained" / "bundle" / "model.onnx").is_file()

    assert run(*[w for w in words if w != "hpo.retrain=true"], "run_dir=here") == 0
    tuned = [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in read_csv(Path("here/trials.csv"))
    ]
    assert tuned == [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_two_rehearsed_machines_train_what_one_process_does(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], trainer: str
) -> None:
    words = [*TINY, f"data.root={photos}", "callbacks.ema_decay=0", "trainer.max_epochs=2"]
    job = [f"trainer={trainer}", "cloud=rehearsal", "cloud.instance_count=2", "debugger=off"]
    there = tmp_path / "there"
    assert cloud([*words, *job, f"run_dir={there}"]) == 0
    said = capsys.readouterr().out
    assert f"  as        2 processes, {trainer}: 4 of each batch's 8 photos each" in said
    assert said.count("sagelight-metrics epoch=2 ") == 1

    assert run(*words, "run_dir=here") == 0
    assert figures(there) == pytest.approx(figures(Path("here")), abs=1e-4)
    assert (there / "bundle" / "model.onnx").is_file()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that a rehearsal which stays has printed."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "launch" / "rehearsal.py")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path_factory.mktemp("rehearsal"),
        preexec_fn=hear_ctrl_c,
    )
    assert process.stdout is not None
    found = {}
    for line in process.stdout:
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            found[name] = value
        if line.startswith("export SAGEMAKER_ROLE"):
            break
    yield found
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(timeout=60) == 0


@pytest.mark.slow
def test_without_any_rehearsal_word_the_command_talks_to_a_standing_one(
    standing: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in standing.items():
        monkeypatch.setenv(name, value)
    words = [*SMALL, "trainer.max_epochs=1"]
    assert cloud([*words, "cloud.follow=false"]) == 0
    name = capsys.readouterr().out.split("started ")[1].split(".")[0]

    assert cloud(words) == 0
    said = capsys.readouterr().out
    assert f"{name} is there already" in said
    assert "sagelight-metrics epoch=1 " in said
    assert cloud(["status", f"job={name}"]) == 0
    assert capsys.readouterr().out == f"{name}: Completed\n"
    assert cloud(["logs", f"job={name}"]) == 0
    assert "sagelight-metrics epoch=1 " in capsys.readouterr().out
    assert cloud(["stop", f"job={name}"]) == 0
    assert capsys.readouterr().out == f"{name} has ended already: Completed\n"
    assert cloud(["fetch", f"job={name}", "output=fetched"]) == 0
    assert Path("fetched/bundle/model.onnx").is_file()
    capsys.readouterr()
    Path("other").mkdir()
    Path("other/mine.txt").write_text("keep me")
    assert cloud(["fetch", f"job={name}", "output=other"]) == 2
    assert (
        "other holds something else, and nothing in it is overwritten." in capsys.readouterr().err
    )
    assert cloud(["fetch", f"job={name}", "output=fetched"]) == 0
    assert cloud(["status", "job=nobody"]) == 2
    assert (
        "there is no training, tuning, transform or processing job of that name"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_spot_training_that_is_interrupted_goes_on_to_the_same_end(
    standing: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in standing.items():
        monkeypatch.setenv(name, value)
    words = [*SMALL, "trainer.max_epochs=20"]
    assert cloud([*words, "cloud.spot=true", "cloud.follow=false"]) == 0
    job = capsys.readouterr().out.split("started ")[1].split(".")[0]
    said, deadline = "", time.monotonic() + 120
    # By then some epoch's checkpoint is in the bucket.
    while "sagelight-metrics epoch=8 " not in said and time.monotonic() < deadline:
        time.sleep(0.2)
        assert cloud(["logs", f"job={job}"]) == 0
        said = capsys.readouterr().out
    url = f"{standing['AWS_ENDPOINT_URL']}/rehearsal/interrupt/{job}"
    with urlopen(Request(url, method="POST")) as answer:
        assert answer.read() == b"interrupted\n"
    assert cloud([*words, "cloud.spot=true", "run_dir=there"]) == 0
    said = capsys.readouterr().out
    assert "the spot machine was taken away" in said
    assert "continuing from" in said
    assert run(*words, "run_dir=here") == 0
    assert figures(Path("there")) == figures(Path("here"))


def test_a_refused_configuration_fails_the_job_with_our_sentence(
    standing: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in standing.items():
        monkeypatch.setenv(name, value)
    # Whether this machine has a GPU is known inside the job only.
    assert cloud([*SMALL, "trainer.accelerator=mps"]) == 2
    message = capsys.readouterr().err
    assert "failed: trainer.accelerator=mps: this machine has none" in message
    assert "cloud.attempt=2" in message
    assert cloud([*SMALL, "trainer.accelerator=mps"]) == 2
    assert "is there already and failed: trainer.accelerator=mps" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_whose_trials_all_fail_says_where_to_look(
    standing: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in standing.items():
        monkeypatch.setenv(name, value)
    words = [*SMALL, "trainer.accelerator=mps", "-m", "model.dropout=0,0.5", "hpo.strategy=grid"]
    assert cloud([*words, "run_dir=failed"]) == 2
    told = capsys.readouterr()
    assert told.out.count("Failed  -") == 2
    assert "failed: All training jobs failed." in told.err
    assert "The first trial said: trainer.accelerator=mps: this machine has none" in told.err
    assert "The whole log: logs job=digits-" in told.err
    rows = read_csv(Path("failed/trials.csv"))
    assert [row["state"] for row in rows] == ["Failed"] * 2
    assert all(row["reason"] for row in rows)
    assert not Path("failed/best.yaml").exists()


GUARD = """
import os, sys
def hear(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = args[1][0] if event == "socket.connect" and isinstance(args[1], tuple) else args[0]
        if isinstance(host, str) and host not in ("127.0.0.1", "::1", "localhost", os.uname().nodename):
            with open(os.environ["GUARD_LOG"], "a") as log:
                log.write(f"{event} {host} {sys.argv[:2]}\\n")
sys.addaudithook(hear)
with open(os.environ["GUARD_LOG"] + ".seen", "a") as log:
    log.write(f"{sys.argv[:1]}\\n")
"""


def test_a_rehearsal_never_leaves_this_machine(tmp_path: Path) -> None:
    """Every Python that it starts reports the hosts that it looks up or connects to."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    log = tmp_path / "hosts"
    subprocess.run(
        [sys.executable, str(DOOR), *SMALL, "trainer.max_epochs=1", "cloud=rehearsal"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "guard"), "GUARD_LOG": str(log)},
    )
    # The launcher, AWS's train program, pip, and the job itself were all listened to.
    assert len((tmp_path / "hosts.seen").read_text().splitlines()) >= 4
    assert not log.exists(), log.read_text()


def test_ctrl_c_detaches_and_says_how_to_come_back(standing: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, str(DOOR), *SMALL, "trainer.max_epochs=2", "seed=7"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | standing | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=hear_ctrl_c,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "InProgress" in line:
            process.send_signal(signal.SIGINT)
            break
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on. Repeat the same command to follow it again" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("how", ["file", "module"])
@pytest.mark.parametrize("place", [".", "launch"])
def test_the_door_opens_from_anywhere(how: str, place: str, tmp_path: Path) -> None:
    if how == "module" and place == "launch":
        pytest.skip("python -m launch.sagemaker is typed in the checkout")
    command = [str(DOOR)] if how == "file" else ["-m", "launch.sagemaker"]
    words = [*SMALL, f"data.root={tmp_path / 'digits'}", "dry_run=true"]
    done = subprocess.run(
        [sys.executable, *command, *words], cwd=ROOT / place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "CreateTrainingJob digits-" in done.stdout


def test_a_dry_run_opens_no_socket_and_needs_no_credentials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a dry run opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert cloud([*SMALL, "hpo=true", "dry_run=true"]) == 0
    said = capsys.readouterr().out
    request = json.loads(said[said.index("\n{") : said.rindex("}") + 1])
    assert request["HyperParameterTuningJobConfig"]["RandomSeed"] == 0
    assert "instance-hours" in said


def test_a_dry_run_is_quick() -> None:
    def seconds() -> float:
        started = time.monotonic()
        subprocess.run(
            [sys.executable, str(DOOR), "experiment=digits", "hpo=true", "dry_run=true"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.monotonic() - started

    # One of three: other tests run beside this one. The figure itself is measured alone.
    assert any(seconds() <= 2 * 2.5 for _ in range(3))


def test_help_answers_and_the_launcher_imports_no_torch() -> None:
    code = (
        "import sys; from sagelight.cloud.door import main; main(['experiment=digits', 'dry_run=true']); "
        "assert 'torch' not in sys.modules; assert 'sagemaker' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(
        [sys.executable, str(DOOR), "--help"], capture_output=True, text=True, check=True
    )
    assert "cloud=rehearsal" in done.stdout


@pytest.mark.slow
def test_torchvisions_weights_travel_with_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from torchvision.models import get_model_weights, squeezenet1_1

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    name = get_model_weights("squeezenet1_1").DEFAULT.url.rsplit("/", 1)[1]
    cached = tmp_path / "torch" / "hub" / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    torch.manual_seed(5)
    torch.save(squeezenet1_1(weights=None).state_dict(), cached)
    words = [*SMALL, "model.weights=default", "trainer.max_epochs=1", "cloud=rehearsal"]
    assert cloud([*words, "run_dir=run"]) == 0
    # The job took the file that came through its channel, not the one of this machine.
    saved = Path("run/config.yaml").read_text()
    assert "opt/ml/input/data/weights/squeezenet1_1.pth" in saved


@pytest.mark.slow
def test_what_debugger_keeps_of_a_rehearsed_job_comes_home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sagelight.debugging.bridge")
    words = [*SMALL, "trainer.max_epochs=1", "debugger.cloud=true", "debugger.save_interval=2"]
    assert cloud([*words, "cloud=rehearsal", f"run_dir={tmp_path / 'run'}"]) == 0
    assert "notice    Debugger takes no new AWS customers" in capsys.readouterr().out
    trial = f"trial={tmp_path / 'run' / 'debugger'}"
    assert run("debug", trial, "rules=[VanishingGradient,ExplodingTensor]") == 0
    said = capsys.readouterr().out
    # Of the four steps, the early ones 0, 1 and 2; 2 is also the one of the interval.
    assert "3 of TRAIN" in said
    assert said.count("NoIssuesFound") == 2

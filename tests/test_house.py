"""Promises about the repository itself: pins, addresses, imports, start-up, the README."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from debugging.trials import healthy, leave_trial
from sagelight.cli import LOCAL
from sagelight.cloud.door import CLOUD
from sagelight.help import overview, verb_help, with_settings_table
from serving.servers import Server

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "torch",
    "torchvision",
    "pytorch_lightning",
    "hydra",
    "omegaconf",
    "onnxruntime",
    "sklearn",
)
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]
# What shrinks a README command to tiny photos and no network.
SHRUNK = [
    "trainer=smoke",
    "model.backbone=squeezenet1_1",
    "model.weights=none",
    "data.image_size=32",
    "data.batch_size=8",
]


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_no_file_holds_a_download_address() -> None:
    address = re.compile(r"(https?|s?ftp|git\+\w+)://(?!127\.0\.0\.1|localhost)[\w.-]+")
    texts = (".txt", ".toml", ".yaml", ".yml", ".md", ".lock", ".cfg", ".ini")
    for path in tracked():
        if path.suffix in texts or path.name in ("Makefile", "run"):
            assert not address.search(path.read_text()), path


@pytest.mark.parametrize(
    "module",
    ["sagelight", "sagelight.cli", "sagelight.help", "sagelight.errors", "sagelight.cloud.door"],
)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", ["sagelight.config.compose", "sagelight.data.check", "sagelight.cloud.command"]
)
def test_configuration_gate_and_cloud_need_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


DOORS = {"local": LOCAL, "sagemaker": CLOUD}


@pytest.mark.parametrize("door", DOORS)
def test_help_answers_in_half_a_second(door: str) -> None:
    command = [sys.executable, str(ROOT / "launch" / f"{door}.py"), "--help"]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert done.stdout == overview(DOORS[door])
    assert min(seconds) <= 0.5


@pytest.mark.parametrize(("door", "verb"), [(d, v) for d in DOORS for v in DOORS[d].verbs])
def test_every_verb_explains_every_setting(
    door: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert DOORS[door].main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown == verb_help(DOORS[door], verb)
    for line in shown.splitlines():
        if re.match(r"  [\w.]+=", line):
            assert len(line) < 100


def test_the_readmes_table_of_settings_is_the_one_of_help() -> None:
    readme = (ROOT / "README.md").read_text()
    assert with_settings_table(readme) == readme, "type: python -m sagelight.help README.md"


@pytest.mark.parametrize("door", ["local", "sagemaker", "rehearsal"])
def test_the_launcher_without_sagelight_says_what_to_type(door: str) -> None:
    command = [sys.executable, "-I", "-S", str(ROOT / "launch" / f"{door}.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: this Python has no sagelight. Type `make venv`")


def serves(words: list[str]) -> None:
    """The server of `serve ... port=8080`, on a free port instead, labels a photo and ends when asked."""
    name, bundle, port = words
    assert (name, port) == ("serve", "port=8080")
    server = Server(Path(bundle.removeprefix("bundle=")))
    try:
        server.ready()
        photo = next(Path("photos").rglob("*.png"))
        assert server.label(photo.read_bytes()).json["label"]
    finally:
        assert server.stop() == 0


def test_every_command_of_the_readme_runs(photos: Path) -> None:
    shutil.copytree(photos, "photos")
    rng = np.random.default_rng(0)
    leave_trial(Path("tensors"), [healthy(step, rng) for step in range(20)])
    assert len(COMMANDS) >= 10
    for command in COMMANDS:
        python, launcher, *words = shlex.split(command)
        door = launcher.removeprefix("launch/").removesuffix(".py")
        assert python == "python"
        trains = any(word.startswith("experiment=") for word in words)
        shrunk = (
            [word for word in words if word != "trainer.max_epochs=30"] + SHRUNK
            if trains
            else words
        )
        if trains and door == "local" and {"hpo=true", "-m"} & {*words}:
            shrunk.append("hpo.max_jobs=2")
        if words[0] == "export":
            # Of six photos one is a loss of a sixth.
            shrunk.append("limit=1")
        if words[0] == "serve":
            serves(words)
        else:
            assert DOORS[door].main(shrunk) == 0, command
    assert len(Path("labels.csv").read_text().splitlines()) == 37

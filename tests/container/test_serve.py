"""An endpoint's container: the environment says what it serves, where, and how."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from bundles import make_bundle, photo
from sagelight.container.serve import container_settings, main
from sagelight.errors import ConfigError
from sagelight.serving.server.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[2]


def settings(monkeypatch: pytest.MonkeyPatch, *words: str, **variables: str) -> ServeSettings:
    monkeypatch.delenv("SAGEMAKER_BASE_DIR", raising=False)
    return container_settings(variables, list(words))


def test_without_variables_it_is_as_the_contract_says(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, "serve")
    assert (found.bundle, found.host, found.port) == ("/opt/ml/model", "0.0.0.0", 8080)
    assert found.explain is False
    assert found == settings(monkeypatch)


def test_variables_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(
        monkeypatch,
        SAGEMAKER_BIND_TO_PORT="9000",
        SAGELIGHT_HOST="127.0.0.1",
        SAGELIGHT_BATCH_SIZE="16",
        SAGELIGHT_BATCH_DELAY_MS="2.5",
        SAGELIGHT_WORKERS="auto",
        SAGELIGHT_THREADS="3",
        SAGELIGHT_URL_HOSTS="a.example, b.example",
        SAGELIGHT_EXPLAIN="True",
        SAGELIGHT_COMMIT="0123abc",
    )
    expected = ServeSettings(
        "/opt/ml/model",
        host="127.0.0.1",
        port=9000,
        batch_size=16,
        batch_delay_ms=2.5,
        threads=3,
        url_hosts=["a.example", "b.example"],
        explain=True,
    )
    assert found == expected


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"SAGELIGHT_QUEUE": "many"}, "SAGELIGHT_QUEUE=many: must be a whole number."),
        ({"SAGELIGHT_QUEUE": "0"}, "SAGELIGHT_QUEUE=0: must be at least 1."),
        ({"SAGELIGHT_WORKERS": "all"}, "SAGELIGHT_WORKERS=all: must be a whole number or auto."),
        ({"SAGELIGHT_EXPLAIN": "yes"}, "SAGELIGHT_EXPLAIN=yes: must be true or false."),
        ({"SAGELIGHT_TIMEOUT_SECONDS": "inf"}, "SAGELIGHT_TIMEOUT_SECONDS=inf: must be a finite"),
        ({"SAGELIGHT_TIMEOUT_SECONDS": "nan"}, "must be greater than 0"),
        (
            {"SAGEMAKER_BIND_TO_PORT": "http"},
            "SAGEMAKER_BIND_TO_PORT=http: must be a whole number.",
        ),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(monkeypatch, **variables)
    assert reason in str(caught.value)


def test_other_words_and_a_missing_model_end_with_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr(signal, "signal", lambda *pair: None)
    monkeypatch.setattr(sys, "argv", ["serve", "train"])
    assert main() == 2
    assert capsys.readouterr().err == "error: train: this container knows the word serve alone.\n"
    monkeypatch.setattr(sys, "argv", ["serve", "serve"])
    assert main() == 2
    assert f"error: {tmp_path / 'model'} is no bundle" in capsys.readouterr().err


def test_a_container_serves_with_little_in_memory(tmp_path: Path) -> None:
    make_bundle(tmp_path / "model")
    photo("red").save(tmp_path / "red.png")
    program = (
        "import sys\n"
        "from sagelight.container.serve import main\n"
        "code = main()\n"
        "heavy = {'torch', 'torchvision', 'lightning', 'pytorch_lightning', 'hydra', 'omegaconf',"
        " 'scipy', 'sklearn', 'jinja2', 'onnx', 'boto3', 'captum'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "sys.exit(code)\n"
    )
    variables = {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SAGELIGHT_PORT": "0",
        "SAGELIGHT_HOST": "127.0.0.1",
        "SAGELIGHT_EXPLAIN": "true",
        "PYTHONPATH": str(ROOT / "src"),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | variables,
    )
    assert process.stdout is not None
    port = json.loads(process.stdout.readline())["port"]
    for path in ("invocations", "explain"):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/{path}",
            (tmp_path / "red.png").read_bytes(),
            {"Content-Type": "application/x-image"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            assert response.status == 200
    process.send_signal(signal.SIGTERM)
    lines = process.stdout.read().splitlines()
    process.stdout.close()
    assert process.wait(20) == 0
    assert lines[-1] == "[]"

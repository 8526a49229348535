"""What is taken for a secret, and that no setting may hold one."""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path

import pytest
from PIL import Image

from sagelight.bundle.preprocessing import decode
from sagelight.cli import main
from sagelight.cloud.door import main as cloud
from sagelight.reporting.pictures import inline
from sagelight.secrets import is_secret, masked, secret_in, without_secrets
from stories.commands import refused, refused_by

# In two parts, so that no scanner takes this file for a leak.
AWS = "AKIA" + "Q7Z2" * 4
HF = "hf_" + "aB3x" * 9
LONG = "wJalrXUtnFEMI" + "K7MDENGbPxRfiCY"


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "DB_PASSWORD", "api_key", "OPENAI_API_KEY", "WANDB_APIKEY", "my.token", "TOKEN", "GOOGLE_CREDENTIALS"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["TOKENIZERS_PARALLELISM", "PATH", "AWS_REGION", "AWS_PROFILE", "KEYBOARD", "SECRETARY", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "XDG_CACHE_HOME", "kms_key"],
)  # fmt: skip
def test_names_of_others(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("https://me:pw@mlflow.example.com/a", "a password in an address"),
        ("postgresql://:pw@host/db", "a password in an address"),
        (f"https://{HF}@host.example", "a name or token in an address"),
        ("https://b.s3.example/k?X-Amz-Signature=0", "a signed address"),
        (f"x={AWS}", "an access key of AWS"),
        (HF, "a token of Hugging Face"),
        ("ghp_" + "a1B2" * 9, "a token of GitHub"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        (f"name-{LONG}-1", "the value of SOME_TOKEN"),
    ],
)
def test_secrets_are_found_in_text(text: str, what: str) -> None:
    assert secret_in(text, {"SOME_TOKEN": LONG}) == what


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/photos@2x/a:b", "https://host.example/@me", "http://127.0.0.1:5000", "arn:aws:iam::123456789012:role/r", "rehearsal", "hf_models/resnet", "photos/2024-01-01T10:00@home", "task-with-a-name-that-is-rather-long-and-hyphenated", "0" * 64],
)  # fmt: skip
def test_others_are_not(text: str) -> None:
    assert secret_in(text, {"AWS_SECRET_ACCESS_KEY": "rehearsal", "PLACE": text}) is None


@pytest.mark.parametrize(
    "word",
    [
        f"name={HF}",
        "logger.mlflow_uri='https://me:pa55word@mlflow.example.com'",
        f"cloud.environment=['HF_TOKEN={LONG}']",
        "cloud.environment=['DB_PASSWORD=pa55word']",
        f"cloud.tags=['owner={AWS}']",
        f"data.root=photos/{LONG}",
        "name=${oc.env:A_TOKEN}",
        f"debugger.parameters.Overfit={{token: {HF}}}",
    ],
)
def test_a_setting_with_a_secret_is_refused_without_repeating_it(
    word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", LONG)
    for door in (main, cloud):
        message = refused_by(door, capsys, "train", "experiment=digits", word)
        assert "settings travel" in message
        assert not any(secret in message for secret in (HF, LONG, AWS, "pa55word"))


@pytest.mark.parametrize(
    "word",
    [
        f"cloud.environment=[HF_TOKEN={LONG}]",
        f"trainer.max_epochs={HF}",
        f"api_key={LONG}x",
        f"seed={LONG}",
    ],
)
def test_no_message_repeats_a_secret(
    word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", LONG)
    message = refused(capsys, "train", word)
    assert not any(secret in message for secret in (HF, LONG))


def test_a_message_without_secrets_stays_as_it_is() -> None:
    text = "optimizer.lr=0.1: must be at most 1. Type data.root=photos/a=b, or aws s3://bucket/k@2."
    assert masked(text) == text
    assert masked(f"a {HF} b https://me:pw@host/x TOKEN=abc") == "a *** b ***host/x TOKEN=***"


def test_an_experiment_of_somebody_elses_reads_no_variable_that_is_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", LONG)
    text = "# @package _global_\ndefaults: [digits, _self_]\nname: run-${oc.env:AWS_SECRET_ACCESS_KEY}\n"
    Path("theirs.yaml").write_text(text)
    message = refused(capsys, "train", "experiment=theirs.yaml")
    assert message.startswith("name holds the value of AWS_SECRET_ACCESS_KEY, and settings travel")


@pytest.mark.parametrize(
    ("verb", "name"),
    [("deploy", "deploy.environment"), ("transform", "environment"), ("explain", "environment")],
)
def test_no_container_is_given_a_secret(
    verb: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused_by(cloud, capsys, verb, "job=j", f"{name}=['HF_TOKEN=x']")
    assert message.startswith(f"{name} holds a value for HF_TOKEN, and settings travel")
    assert message.endswith("Let its role read AWS Secrets Manager.")


def test_other_programs_do_not_see_them() -> None:
    given = {
        "PATH": "/bin",
        "HF_TOKEN": LONG,
        "PIP_INDEX_URL": "https://me:pw@host.example",
        "AWS_SECRET_ACCESS_KEY": LONG,
        "HOME": "/home/me",
    }
    assert without_secrets(given) == {"PATH": "/bin", "HOME": "/home/me"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_in_pages_say_nothing_of_where_a_photo_was_taken(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "PLACE"
    taken = io.BytesIO()
    more = {"comment": b"PLACE", "xmp": b"<x>PLACE</x>"} if kind in ("JPEG", "WEBP") else {}
    Image.new("RGB", (80, 60)).save(taken, kind, exif=exif, **more)
    assert b"PLACE" in taken.getvalue()
    uri = inline(decode(taken.getvalue())).uri
    assert uri is not None
    assert b"PLACE" not in b64decode(uri.partition(",")[2])

"""What AWS refuses becomes one message that says what to type; nothing is left half-created."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloud.conftest import Answer, api_error
from images import make_folder
from sagelight.cloud.door import main
from stories.commands import refused_by

ROLE = "cloud.role=arn:aws:iam::111122223333:role/train"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
Start = Callable[[Callable[[str, str], Answer]], str]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    root = make_folder(tmp_path / "photos", {"": {"blue": 14, "red": 12}})
    return [
        "experiment=resnet18",
        f"data.root={root}",
        "data.batch_size=8",
        "model.weights=none",
        ROLE,
        "cloud.region=eu-west-1",
    ]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    return refused_by(main, capsys, *words)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def test_no_credentials(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *words)
    assert "there are no AWS credentials. Type aws configure" in message
    assert "dry_run=true" in message
    assert "cloud=rehearsal" in message


def test_no_role(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words.remove(ROLE)
    message = refused(capsys, *words)
    assert message.startswith("no execution role is set")
    assert "Type cloud.role=arn:aws:iam::ACCOUNT:role/NAME or set SAGEMAKER_ROLE." in message


def test_no_region(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words.remove("cloud.region=eu-west-1")
    message = refused(capsys, *words)
    assert message.startswith("no region is set")
    assert "Type cloud.region=us-east-1 or set AWS_REGION." in message


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("ExpiredTokenException", "Your credentials have expired. Type aws sso login"),
        ("UnrecognizedClientException", "AWS does not know your credentials. Type aws configure."),
        ("AccessDeniedException", "Your credentials may not do that."),
    ],
)
def test_credentials_that_do_not_count(
    code: str, advice: str, words: list[str], refusing: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    url = refusing(lambda method, target: api_error(code, "No."))
    message = refused(capsys, *words, f"cloud.endpoint_url={url}")
    assert f"({code})" in message
    assert advice in message


def _nothing_there(target: str) -> Answer | None:
    if "Describe" in target:
        return api_error("ValidationException", "Requested resource not found.")
    return None


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("headers", "status", "advice"),
    [
        ({"x-amz-bucket-region": "us-west-2"}, 301, "lies in us-west-2, and a job reads only from its own region. Type cloud.region=us-west-2"),
        ({}, 403, "Your credentials may not do that. Type another cloud.bucket"),
        ({}, 404, "Type cloud.bucket=NAME of a bucket that exists."),
    ],
)  # fmt: skip
def test_a_bucket_that_cannot_be_used(
    headers: dict[str, str],
    status: int,
    advice: str,
    words: list[str],
    refusing: Start,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = refusing(lambda method, target: _nothing_there(target) or (status, headers, ""))
    message = refused(capsys, *words, "cloud.bucket=theirs", f"cloud.endpoint_url={url}")
    assert advice in message


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("code", "said", "advice"),
    [
        ("ResourceLimitExceeded", "The account-level service limit is 0 Instances", "Your account's quota is used up."),
        ("ValidationException", "Cannot find the requested image", "Type cloud.image=URI of an image that the role can pull"),
    ],
)  # fmt: skip
def test_a_job_that_the_service_does_not_start(
    code: str,
    said: str,
    advice: str,
    words: list[str],
    refusing: Start,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listing = (
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></ListBucketResult>'
    )

    def answer(method: str, target: str) -> Answer:
        if "Create" in target:
            return api_error(code, said)
        return _nothing_there(target) or (
            200,
            {"Content-Type": "application/xml"},
            listing if method == "GET" else "",
        )

    message = refused(capsys, *words, f"cloud.endpoint_url={refusing(answer)}")
    assert said in message
    assert advice in message


def test_all_problems_come_in_one_list(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(
        capsys,
        *words,
        "cloud.instance_type=ml.g5.xlarg",
        "cloud.max_wait_seconds=9",
        "data.batch_size=500",
        "cloud.tags=[team]",
        "dry_run=true",
    )
    assert message.startswith("this job has 4 problems:")
    assert "there is no ml.g5.xlarg. Did you mean ml.g5.xlarge" in message
    assert "cloud.max_wait_seconds is for spot jobs" in message
    assert "data.batch_size=500 is larger than the" in message
    assert "cloud.tags: team is no KEY=VALUE" in message


def test_the_ceiling_counts_the_warm_pool(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "cloud.keep_alive_seconds=3600", "dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert "at most   5 instance-hours: 1 job x 1 x 4 h" in said
    assert "and 3600 s of warm pool" in said


def test_photos_that_fail_the_check_are_a_problem(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "red" / "broken.jpg").write_bytes(b"")
    message = refused(capsys, *words, "dry_run=true")
    assert "broken.jpg" in message


def test_photos_that_are_not_there_are_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "experiment=resnet18", "data.root=nowhere", "dry_run=true")
    assert "data.root=nowhere does not exist." in message


def test_a_region_without_an_image(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words.remove("cloud.region=eu-west-1")
    message = refused(capsys, *words, "cloud.region=eu-west-9", "dry_run=true")
    assert (
        "cloud.region=eu-west-9: AWS has no PyTorch 2.14 image there. Did you mean eu-west-"
        in message
    )


def test_a_missing_extra_says_what_to_install(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sagelight.cloud.extra.find_spec", lambda name: None)
    message = refused(capsys, *words, "dry_run=true")
    assert (
        message
        == "boto3 is not installed, and SageMaker jobs need it. Type pip install 'sagelight[aws]'."
    )


@pytest.mark.parametrize(
    ("typed", "part"),
    [
        (["status"], "which job? Type job=NAME"),
        (["deploi"], "deploi: no such command."),
        (["dry_run=maybe"], "dry_run=maybe: must be dry_run=true or dry_run=false."),
        (["--fast"], "--fast: no such option."),
        (["status", "jobb=x"], "status has no setting jobb."),
    ],
)
def test_commands_that_are_not_understood(
    typed: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(capsys, *typed)

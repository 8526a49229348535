"""The verb `deploy` as far as it goes without AWS: plans, problems, ceilings; and what AWS refuses, in words."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bundles import make_bundle
from cloud.conftest import Answer, api_error
from cloud.endpoints import SCHEDULER
from sagelight.cloud.door import main
from stories.commands import refused_by

ROLE = "cloud.role=arn:aws:iam::111122223333:role/train"
REGION = "cloud.region=eu-west-1"
Start = Callable[[Callable[[str, str], Answer]], str]
EMPTY_BUCKET = (
    200,
    {"Content-Type": "application/xml"},
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></ListBucketResult>',
)
JSON = {"Content-Type": "application/x-amz-json-1.1"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("deploy") / "bundle")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    return refused_by(main, capsys, *words)


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, dict[str, dict]]:
    """The text of a dry run, and its requests."""
    capsys.readouterr()
    assert main(["deploy", *words, "dry_run=true"]) == 0
    said = capsys.readouterr().out
    requests: dict[str, dict] = json.loads(said[said.index("\n{") : said.rindex("\n}") + 2])
    return said, requests


def test_a_dry_run_needs_neither_credentials_nor_network(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"a dry run connects: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    said, requests = planned(capsys, f"bundle={bundle}", "endpoint=flowers")
    assert list(requests) == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    image = requests["CreateModel"]["PrimaryContainer"]["Image"]
    assert image.endswith("/pytorch-inference:2.6.0-cpu-py312")
    assert "it gets no patches since 2026-06-30" in said
    assert "24 instance-hours: 1 x 24 h (deploy.hours), if you delete it then" in said
    assert "nothing deletes the endpoint" in said
    assert "note: no execution role is set" in said
    tags = {tag["Key"]: tag["Value"] for tag in requests["CreateEndpoint"]["Tags"]}
    assert tags["sagelight"] == "true"
    assert tags["sagelight:expires"].endswith("Z")


def test_equal_bundles_are_the_same_model_wherever_they_lie(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = make_bundle(tmp_path / "twin")
    for name in ("bundle.json", "metrics.json", "README.md"):
        (twin / name).write_bytes((bundle / name).read_bytes())
    names = [
        planned(capsys, f"bundle={folder}", ROLE, REGION)[1]["CreateModel"]["ModelName"]
        for folder in (bundle, twin)
    ]
    assert names[0] == names[1]
    # Neither what serving does not read nor what others leave there makes another model.
    (twin / "model.safetensors").write_bytes(b"other weights")
    (twin / ".DS_Store").write_bytes(b"theirs")
    same = planned(capsys, f"bundle={twin}", ROLE, REGION)[1]
    assert same["CreateModel"]["ModelName"] == names[0]
    (twin / "code" / "inference.py").write_text("# another")
    other = planned(capsys, f"bundle={twin}", ROLE, REGION)[1]
    assert other["CreateModel"]["ModelName"] != names[0]
    # Without a name of one's own, another model is another endpoint.
    assert other["CreateEndpoint"]["EndpointName"].startswith("tiny-net-")


def test_a_job_is_deployed_from_where_its_bundle_lies(capsys: pytest.CaptureFixture[str]) -> None:
    said, requests = planned(capsys, "job=digits-0123456789", ROLE, REGION)
    uri = requests["CreateModel"]["PrimaryContainer"]["ModelDataUrl"]
    assert uri == (
        "s3://sagemaker-eu-west-1-111122223333/sagelight/jobs/digits-0123456789/output/model.tar.gz"
    )
    assert requests["CreateEndpoint"]["EndpointName"] == "digits-0123456789"
    assert "note: where job=digits-0123456789 left its bundle is assumed" in said


def test_the_ceiling_counts_what_autoscaling_and_serverless_can_cost(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"bundle={bundle}", ROLE, REGION]
    end = [f"deploy.scheduler_role={SCHEDULER}", "deploy.hours=2"]
    said, requests = planned(capsys, *words, *end, "deploy.max_instances=3")
    assert "at most   6 instance-hours: 3 x 2 h (deploy.hours)\n" in said
    assert "1 to 3 instance-hours of ml.m5.large an hour" in said
    assert requests["CreateSchedule"]["ScheduleExpression"].startswith("at(20")
    assert requests["PutScalingPolicy"]["TargetTrackingScalingPolicyConfiguration"]
    said, _ = planned(capsys, *words, *end, "mode=serverless")
    assert "costs     nothing while idle; while it answers, 2 GB for each second" in said
    assert "at most   20 GB-hours: 5 at once x 2 h" in said
    said, requests = planned(capsys, *words, "deploy.hours=null", "endpoint=flowers")
    assert (
        "at most   no end (deploy.hours=null): it is paid until you type cleanup endpoint=flowers"
        in said
    )
    assert [tag["Key"] for tag in requests["CreateEndpoint"]["Tags"]] == ["sagelight"]


def test_an_image_of_ones_own_needs_no_notice_and_may_be_walled(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/sagelight:1"
    words = [f"bundle={bundle}", ROLE, REGION, f"deploy.image={image}"]
    said, requests = planned(
        capsys,
        *words,
        "cloud.network_isolation=true",
        "deploy.instance_type=ml.c7g.large",
        "deploy.environment=['SAGELIGHT_BATCH_SIZE=4']",
    )
    assert "patches" not in said
    assert requests["CreateModel"]["EnableNetworkIsolation"] is True
    container = requests["CreateModel"]["PrimaryContainer"]
    assert container["Image"] == image
    assert container["Environment"] == {"SAGELIGHT_BATCH_SIZE": "4"}


def test_all_problems_come_in_one_list(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "code" / "inference.py").unlink()
    message = refused(
        capsys,
        "deploy",
        f"bundle={bundle}",
        REGION,
        "deploy.instance_type=ml.m5.larg",
        "cloud.network_isolation=true",
        "cloud.spot=true",
        "cloud.tags=['sagelight=no']",
        "deploy.max_concurrency=9",
        "deploy.success_topic=done",
    )
    assert message.startswith("this endpoint has 7 problems:")
    assert "has no code/inference.py. Copy the whole bundle again" in message
    assert "there is no ml.m5.larg. Did you mean ml.m5.large" in message
    assert "cloud.network_isolation=true: AWS's image installs" in message
    assert "cloud.spot is of trainings, and does nothing here" in message
    assert "cloud.tags: sagelight=no: tags that begin so are sagelight's own" in message
    assert "deploy.max_concurrency is for mode=serverless" in message
    assert "deploy.success_topic is for mode=async" in message
    make_bundle(bundle)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["deploy"], "which model? Type job=NAME of a training, or bundle=DIR"),
        (["deploy", "job=a", "bundle=b"], "which model?"),
        (["deploy", "bundle=nowhere"], "nowhere is no bundle"),
        (["deploy", "bundle=s3://b/folder"], "Type bundle=s3://.../model.tar.gz, or bundle=DIR"),
        (["deploy", "job=a", "mode=batch"], "mode=batch: must be one of realtime, serverless, async"),
        (["deploy", "job=a", "deploy.hours=0"], "deploy.hours=0.0: must be greater than 0"),
        (["deploy", "job=a", "cloud.region=eu-west-9"], "AWS has no PyTorch inference image there"),
        (["invoke"], "which endpoint? Type endpoint=NAME"),
        (["invoke", "endpoint=a"], "which photo? Type input=FILE."),
        (["invoke", "endpoint=a", "input=no.jpg"], "input=no.jpg: there is no such file."),
        (["invoke", "endpoint=a", f"input={__file__}", "cloud=rehearsal"], "Type python launch/rehearsal.py in another terminal"),
        (["cleanup"], "what is to go? Type endpoint=NAME, or all=true, or expired=true"),
        (["cleanup", "endpoint=a", "all=true"], "what is to go?"),
    ],
)  # fmt: skip
def test_commands_that_say_too_little_or_too_much(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(capsys, *words)


@pytest.mark.parametrize("words", [["cleanup", "all=true"], ["invoke", "endpoint=a"]])
def test_no_region_is_guessed_where_something_is(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photo.jpg").write_bytes(b"x")
    photo = ["input=photo.jpg"] if "invoke" in words else []
    message = refused(capsys, *words, *photo)
    assert message == "no region is set. Type cloud.region=REGION or set AWS_REGION."


def test_a_damaged_network_is_refused_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = make_bundle(tmp_path / "damaged")
    (damaged / "model.onnx").write_bytes(b"no network")
    assert "model.onnx is damaged" in refused(capsys, "deploy", f"bundle={damaged}", ROLE, REGION)


def test_without_credentials_or_role_the_message_says_what_to_type(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "deploy", f"bundle={bundle}", ROLE, REGION)
    assert "there are no AWS credentials. Type aws configure" in message
    message = refused(capsys, "deploy", f"bundle={bundle}", REGION)
    assert message.startswith("no execution role is set")


class Account:
    """An account in which things are made and deleted, and one operation is refused."""

    def __init__(self, refused: str = "", code: str = "", said: str = "") -> None:
        self.refused, self.code, self.said = refused, code, said
        self.calls: list[str] = []
        self.made: set[str] = set()

    def __call__(self, method: str, target: str) -> Answer:
        operation = target.rpartition(".")[2] if target.startswith("SageMaker") else target
        if target.startswith("/schedules/"):
            operation = {"POST": "CreateSchedule", "DELETE": "DeleteSchedule"}[method]
        elif not target.startswith("SageMaker"):
            return EMPTY_BUCKET
        self.calls.append(operation)
        if operation == self.refused:
            return api_error(self.code, self.said)
        kind = operation.removeprefix("Create").removeprefix("Delete").removeprefix("Describe")
        if operation.startswith("Create"):
            self.made.add(kind)
        elif operation.startswith("Delete"):
            self.made.discard(kind)
        elif kind not in self.made:
            return api_error("ValidationException", f'Could not find {kind} "arn".')
        arn = "arn:aws:sagemaker:eu-west-1:111122223333:x/y"
        answer = {"ModelArn": arn, "EndpointConfigArn": arn, "EndpointArn": arn, "ScheduleArn": arn}
        return (200, JSON, json.dumps(answer))


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("operation", "code", "said", "advice"),
    [
        ("CreateEndpoint", "ResourceLimitExceeded", "The account-level service limit is 0 Instances", "Type another deploy.instance_type or mode=serverless"),
        ("CreateEndpoint", "AccessDeniedException", "not authorized to perform: sagemaker:CreateEndpoint", "Your credentials may not do that."),
        ("CreateSchedule", "AccessDeniedException", "not authorized to perform: scheduler:CreateSchedule", "Your credentials may not do that."),
        ("CreateEndpointConfig", "ValidationException", "no such KMS key", "no such KMS key"),
        ("CreateModel", "ValidationException", "Could not access model data", "Could not access model data"),
    ],
)  # fmt: skip
def test_what_aws_refuses_leaves_nothing_behind(
    operation: str,
    code: str,
    said: str,
    advice: str,
    bundle: Path,
    refusing: Start,
    capsys: pytest.CaptureFixture[str],
) -> None:
    account = Account(operation, code, said)
    message = refused(
        capsys,
        "deploy",
        f"bundle={bundle}",
        ROLE,
        REGION,
        f"deploy.scheduler_role={SCHEDULER}",
        f"cloud.endpoint_url={refusing(account)}",
    )
    assert said in message
    assert advice in message
    assert account.made == set()
    made = [call for call in account.calls if call.startswith("Create")]
    undone = [call for call in account.calls if call.startswith("Delete")]
    assert [c.removeprefix("Create") for c in made[:-1]] == [
        c.removeprefix("Delete") for c in reversed(undone)
    ]


@pytest.mark.usefixtures("keys")
def test_what_cannot_be_taken_back_is_named(
    bundle: Path, refusing: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account("CreateEndpointConfig", "ValidationException", "no")

    def stubborn(method: str, target: str) -> Answer:
        if target.endswith("DeleteModel"):
            return api_error("AccessDeniedException", "you may not delete")
        return account(method, target)

    url = f"cloud.endpoint_url={refusing(stubborn)}"
    assert main(["deploy", f"bundle={bundle}", ROLE, REGION, url]) == 2
    said = capsys.readouterr().err
    assert "the model tiny-net-" in said
    assert "stays: removing the model" in said
    assert "Type python launch/sagemaker.py cleanup all=true." in said


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("code", "said", "advice"),
    [
        ("ExpiredTokenException", "expired", "Your credentials have expired."),
        ("AccessDeniedException", "not authorized", "Your credentials may not do that."),
        ("ValidationException", 'Could not find endpoint "arn"', "cleanup all=true dry_run=true lists yours"),
    ],
)  # fmt: skip
def test_an_endpoint_that_cannot_be_asked(
    code: str,
    said: str,
    advice: str,
    tmp_path: Path,
    refusing: Start,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    url = refusing(lambda method, target: api_error(code, said))
    message = refused(
        capsys, "invoke", "endpoint=a", "input=photo.jpg", REGION, f"cloud.endpoint_url={url}"
    )
    assert advice in message


@pytest.mark.usefixtures("keys")
def test_cleanup_ends_what_costs_whatever_else_is_forbidden(
    refusing: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    arn = "arn:aws:sagemaker:eu-west-1:111122223333:endpoint/flowers"
    row = {"EndpointName": "flowers", "EndpointArn": arn, "EndpointStatus": "InService"}
    row |= {"CreationTime": 0, "LastModifiedTime": 0, "EndpointConfigName": "gone"}
    deleted: list[str] = []

    def answer(method: str, target: str) -> Answer:
        operation = target.rpartition(".")[2]
        if not target.startswith("SageMaker"):
            return api_error("AccessDeniedException", f"no rights to {operation}", 403)
        known = {
            "ListEndpoints": {"Endpoints": [] if deleted else [row]},
            "DescribeEndpoint": row,
            "ListTags": {"Tags": [{"Key": "sagelight", "Value": "true"}]},
            "ListEndpointConfigs": {"EndpointConfigs": []},
            "ListModels": {"Models": []},
            "ListTrainingJobs": {"TrainingJobSummaries": []},
            "ListHyperParameterTuningJobs": {"HyperParameterTuningJobSummaries": []},
            "ListTransformJobs": {"TransformJobSummaries": []},
        }
        if operation == "DeleteEndpoint":
            deleted.append("flowers")
            return (200, JSON, "{}")
        if operation not in known or (deleted and operation == "DescribeEndpoint"):
            return api_error("ValidationException", 'Could not find "arn".')
        return (200, JSON, json.dumps(known[operation]))

    words = ["cleanup", "all=true", REGION, f"cloud.endpoint_url={refusing(answer)}"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "flowers: InService, not known: its configuration is gone, with no end" in told.out
    assert "deleted   endpoint flowers" in told.out
    assert deleted == ["flowers"]
    assert "note: listing schedules was refused: no rights to" in told.err
    assert "note: removing autoscaling was refused: no rights to" in told.err

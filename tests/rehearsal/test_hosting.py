"""Endpoints of the rehearsal: their states, what they answer and refuse, and that nothing of them stays."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bundles import make_bundle, photo
from rehearsal.conftest import BUCKET, Stage
from sagelight.cloud.packing import pack_bundle
from sagelight.rehearsal.hosting import DownloadError, ModelServer
from sagelight.rehearsal.server import ACCOUNT, REGION

ROLE = f"arn:aws:iam::{ACCOUNT}:role/rehearsal"
IMAGE = "111122223333.dkr.ecr.us-east-1.amazonaws.com/own:1"


def jpeg(colour: str = "red", **size: int) -> bytes:
    packed = io.BytesIO()
    photo(colour, **size).save(packed, "JPEG")
    return packed.getvalue()


class Hosting:
    """Endpoints of one rehearsal, made by boto3 as a person would make them."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        import boto3

        session = boto3.session.Session("k", "s", region_name=REGION)
        self.sagemaker, self.s3, self.logs = stage.sagemaker, stage.s3, stage.logs
        self.running = stage.running
        self.runtime, self.scheduler = (
            session.client(name, endpoint_url=stage.running.url)
            for name in ("sagemaker-runtime", "scheduler")
        )
        for name, labels in (("colours", ("blue", "green", "red")), ("letters", ("a", "b"))):
            packed = pack_bundle(make_bundle(folder / name, labels=labels))
            with packed.archive() as path:
                self.s3.upload_file(str(path), BUCKET, f"models/{name}.tar.gz")
            self.model(name)

    def model(self, name: str, key: str | None = None) -> None:
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataUrl": f"s3://{BUCKET}/{key or f'models/{name}.tar.gz'}",
            },
        )

    def config(
        self, name: str, model: str, variant: dict[str, Any] | None = None, **more: Any
    ) -> None:
        machine = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {"VariantName": "AllTraffic", "ModelName": model, **(variant or machine)}
            ],
            **more,
        )

    def begin(self, name: str, model: str = "colours", **more: Any) -> None:
        self.config(name, model, **more)
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def settled(self, name: str, seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
            if found["EndpointStatus"] in ("InService", "Failed"):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{name} stays {found['EndpointStatus']}")

    def create(self, name: str, model: str = "colours", **more: Any) -> dict[str, Any]:
        self.begin(name, model, **more)
        return self.settled(name)

    def gone(self, name: str, seconds: float = 30) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if name not in {
                e["EndpointName"] for e in self.sagemaker.list_endpoints()["Endpoints"]
            }:
                return True
            time.sleep(0.05)
        return False

    def delete(self, name: str) -> None:
        self.sagemaker.delete_endpoint(EndpointName=name)
        assert self.gone(name)

    def ask(self, name: str, body: bytes, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.runtime.invoke_endpoint(
            EndpointName=name, Body=body, **{"ContentType": "image/jpeg", **more}
        )
        return answer

    def refused(self, call: Callable[[], Any]) -> tuple[str, str]:
        """Code and message of an error of the API."""
        from botocore.exceptions import ClientError

        with pytest.raises(ClientError) as raised:
            call()
        error = raised.value.response["Error"]
        return error["Code"], error["Message"]

    def read(self, uri: str, seconds: float = 30) -> bytes:
        """An object that is expected to come."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.s3.list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount"):
                body: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
                return body
            time.sleep(0.05)
        raise AssertionError(f"{uri} never came")


@pytest.fixture(scope="module")
def hosting(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Hosting:
    return Hosting(stage, tmp_path_factory.mktemp("hosting"))


@pytest.fixture(scope="module")
def colours(hosting: Hosting) -> Iterator[str]:
    """An endpoint in service, not to be changed."""
    assert hosting.create("standing")["EndpointStatus"] == "InService"
    yield "standing"
    hosting.delete("standing")


def test_an_endpoint_answers_as_its_bundle_does(hosting: Hosting, colours: str) -> None:
    answer = hosting.ask(colours, jpeg("green"), Accept="application/json")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["ContentType"].startswith("application/json")
    assert json.loads(answer["Body"].read())["label"] == "green"
    answer = hosting.ask(colours, jpeg("red"), Accept="text/csv")
    assert answer["Body"].read().decode().startswith("red,")
    described = hosting.sagemaker.describe_endpoint(EndpointName=colours)
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 1


def test_what_the_container_refuses_is_worded_as_the_service_words_it(
    hosting: Hosting, colours: str
) -> None:
    code, message = hosting.refused(lambda: hosting.ask(colours, b"no image at all"))
    assert code == "ModelError"
    assert message.startswith("Received client error (4")
    assert f"/aws/sagemaker/Endpoints/{colours} in account {ACCOUNT}" in message


def test_payloads_above_the_services_limit_are_refused(hosting: Hosting, colours: str) -> None:
    code, message = hosting.refused(lambda: hosting.ask(colours, b"\xff" * 6_291_457))
    assert (code, message) == ("413", "HTTP content length exceeded 6291456 bytes.")
    code, _ = hosting.refused(lambda: hosting.ask(colours, b"\xff" * 6_291_456))
    assert code == "ModelError"


def test_the_container_prints_into_the_endpoints_log(hosting: Hosting, colours: str) -> None:
    group = f"/aws/sagemaker/Endpoints/{colours}"
    hosting.ask(colours, jpeg())
    deadline, said = time.monotonic() + 10, ""
    while "/invocations" not in said and time.monotonic() < deadline:
        [stream] = hosting.logs.describe_log_streams(logGroupName=group)["logStreams"]
        events = hosting.logs.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"]
        )["events"]
        said = "\n".join(event["message"] for event in events)
        time.sleep(0.1)
    assert "/invocations" in said
    assert stream["logStreamName"].startswith("AllTraffic/i-")


def test_names_that_are_not_there_or_there_already(hosting: Hosting, colours: str) -> None:
    sagemaker = hosting.sagemaker
    for call, part in (
        (lambda: sagemaker.describe_endpoint(EndpointName="no"), 'Could not find endpoint "arn:'),
        (lambda: sagemaker.describe_model(ModelName="no"), 'Could not find model "arn:'),
        (lambda: sagemaker.describe_endpoint_config(EndpointConfigName="no"), "Could not find endpoint conf"),
        (lambda: hosting.config("new", "no"), 'Could not find model "arn:'),
        (lambda: sagemaker.create_endpoint(EndpointName="n", EndpointConfigName="no"), "Could not find endpoint conf"),
        (lambda: sagemaker.create_endpoint(EndpointName=colours, EndpointConfigName=colours), "Cannot create already existing endpoint"),
        (lambda: hosting.config(colours, "colours"), "Cannot create already existing endpoint configuration"),
        (lambda: hosting.model("colours"), "Cannot create already existing model"),
    ):  # fmt: skip
        code, message = hosting.refused(call)
        assert code == "ValidationException"
        assert part in message
    code, message = hosting.refused(lambda: hosting.ask("no", jpeg()))
    assert (code, message) == ("ValidationError", f"Endpoint no of account {ACCOUNT} not found.")


@pytest.mark.parametrize(
    ("key", "content", "reason"),
    [
        ("models/absent.tar.gz", None, "Could not find model data at s3://"),
        ("models/torn.tar.gz", b"\x1f\x8b torn", "Failed to extract model data archive"),
        ("models/empty.tar.gz", {}, "did not pass the ping health check"),
        ("models/up.tar.gz", {"../up": b"x"}, "Failed to extract model data archive"),
    ],
)
def test_what_cannot_serve_fails_with_the_reason(
    hosting: Hosting, key: str, content: bytes | dict[str, bytes] | None, reason: str
) -> None:
    if isinstance(content, dict):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for name, inner in content.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(inner)
                tar.addfile(entry, io.BytesIO(inner))
        content = packed.getvalue()
    if content is not None:
        hosting.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    name = Path(key).name.partition(".")[0]
    hosting.model(name, key)
    found = hosting.create(name, name)
    assert found["EndpointStatus"] == "Failed"
    assert reason in found["FailureReason"]
    code, _ = hosting.refused(lambda: hosting.ask(name, jpeg()))
    assert code == "ValidationError"
    hosting.delete(name)


def test_while_it_is_created_it_can_neither_be_deleted_nor_updated(hosting: Hosting) -> None:
    hosting.begin("young")
    code, message = hosting.refused(lambda: hosting.sagemaker.delete_endpoint(EndpointName="young"))
    assert code == "ValidationException"
    assert message.startswith("Cannot update in-progress endpoint")
    hosting.settled("young")
    hosting.delete("young")


def test_an_update_loses_no_request_and_a_failed_one_changes_nothing(hosting: Hosting) -> None:
    hosting.create("moving")
    stop, answers, errors = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                body = hosting.ask("moving", jpeg("red"))["Body"].read()
                answers.append(json.loads(body)["label"])
            except Exception as error:
                errors.append(error)

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        hosting.config("moving-2", "letters")
        hosting.sagemaker.update_endpoint(EndpointName="moving", EndpointConfigName="moving-2")
        assert (
            hosting.sagemaker.describe_endpoint(EndpointName="moving")["EndpointStatus"]
            == "Updating"
        )
        found = hosting.settled("moving")
        time.sleep(0.3)
        stop.set()
        for each in asking:
            each.result()
    assert errors == []
    assert (found["EndpointConfigName"], found["EndpointStatus"]) == ("moving-2", "InService")
    assert answers[0] == "red"
    assert answers[-1] in "ab"

    hosting.model("nothing", "models/nothing.tar.gz")
    hosting.config("moving-3", "nothing")
    hosting.sagemaker.update_endpoint(EndpointName="moving", EndpointConfigName="moving-3")
    found = hosting.settled("moving")
    assert (found["EndpointConfigName"], found["EndpointStatus"]) == ("moving-2", "InService")
    assert "Could not find model data" in found["FailureReason"]
    assert json.loads(hosting.ask("moving", jpeg())["Body"].read())["label"] in "ab"
    hosting.delete("moving")


def test_asynchronous_answers_and_failures_lie_in_s3(hosting: Hosting) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/answers", "S3FailurePath": f"s3://{BUCKET}/failures"}
    hosting.create("later", AsyncInferenceConfig={"OutputConfig": output})
    code, _ = hosting.refused(lambda: hosting.ask("later", jpeg()))
    assert code == "ValidationError"
    for key, content in (("in/blue.jpg", jpeg("blue")), ("in/none.jpg", b"none")):
        hosting.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def ask(**how: Any) -> dict[str, Any]:
        answer: dict[str, Any] = hosting.runtime.invoke_endpoint_async(
            EndpointName="later", ContentType="image/jpeg", **how
        )
        return answer

    good = ask(InputLocation=f"s3://{BUCKET}/in/blue.jpg")
    assert json.loads(hosting.read(good["OutputLocation"]))["label"] == "blue"
    inline = ask(Body=jpeg("green"))
    assert json.loads(hosting.read(inline["OutputLocation"]))["label"] == "green"
    bad = ask(InputLocation=f"s3://{BUCKET}/in/none.jpg")
    assert b"Received client error (4" in hosting.read(bad["FailureLocation"])
    absent = ask(InputLocation=f"s3://{BUCKET}/in/absent.jpg")
    assert b"absent.jpg" in hosting.read(absent["FailureLocation"])
    hosting.delete("later")


def test_a_serverless_endpoint_has_its_own_limits(hosting: Hosting) -> None:
    serverless = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}
    found = hosting.create("idle", variant=serverless)
    assert found["ProductionVariants"][0]["CurrentServerlessConfig"]["MemorySizeInMB"] == 2048
    code, message = hosting.refused(lambda: hosting.ask("idle", b"\xff" * 4_194_305))
    assert (code, message) == ("413", "HTTP content length exceeded 4194304 bytes.")
    assert json.loads(hosting.ask("idle", jpeg())["Body"].read())["label"] == "red"
    hosting.delete("idle")


def test_what_is_captured_is_what_was_asked_and_answered(hosting: Hosting) -> None:
    hosting.create(
        "watched",
        DataCaptureConfig={
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"s3://{BUCKET}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        },
    )
    asked = jpeg("red")
    hosting.ask("watched", asked)
    [entry] = hosting.s3.list_objects_v2(Bucket=BUCKET, Prefix="captured/watched/AllTraffic/")[
        "Contents"
    ]
    kept = json.loads(hosting.s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read())
    assert kept["captureData"]["endpointInput"]["encoding"] == "BASE64"
    answer = json.loads(kept["captureData"]["endpointOutput"]["data"])
    assert answer["label"] == "red"
    hosting.delete("watched")


def test_a_schedule_deletes_the_endpoint_when_its_time_is_over(hosting: Hosting) -> None:
    hosting.create("mayfly")
    soon = datetime.now(UTC) + timedelta(seconds=1)
    hosting.scheduler.create_schedule(
        Name="sagelight-mayfly",
        ScheduleExpression=f"at({soon:%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        ActionAfterCompletion="DELETE",
        Target={
            "Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint",
            "RoleArn": ROLE,
            "Input": json.dumps({"EndpointName": "mayfly"}),
        },
    )
    assert hosting.gone("mayfly")
    assert hosting.scheduler.list_schedules(NamePrefix="sagelight-mayfly")["Schedules"] == []


def test_deleting_an_endpoint_ends_its_process(hosting: Hosting) -> None:
    hosting.create("brief")
    fleet = hosting.running.sagemaker.hosting.endpoints.endpoints["brief"].fleet
    assert fleet is not None
    folder = Path(fleet.folder.name)
    assert folder.is_dir()
    hosting.delete("brief")
    assert fleet.server.ended
    assert not folder.exists()


def test_a_model_server_is_the_container_of_any_model(hosting: Hosting, tmp_path: Path) -> None:
    server = ModelServer(
        f"s3://{BUCKET}/models/colours.tar.gz",
        {"SAGELIGHT_TOP_K": "1"},
        tmp_path,
        hosting.s3,
        hosting.running.environment,
    )
    assert server.wait_ready(30)
    reply = server.ask("POST", "/invocations", jpeg("blue"), {"Content-Type": "image/jpeg"})
    assert reply.status == 200
    assert [entry["label"] for entry in json.loads(reply.body)["top"]] == ["blue"]
    server.close()
    assert server.ended
    assert not server.ready()
    with pytest.raises(DownloadError, match="Could not find model data"):
        ModelServer(f"s3://{BUCKET}/no.tar.gz", {}, tmp_path / "other", hosting.s3, {})

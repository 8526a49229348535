"""Batch transform in the rehearsal, seen through boto3: every object is really sent to a model's server."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rehearsal.conftest import BUCKET, Stage
from sagelight.rehearsal import model_server, transform_job
from sagelight.rehearsal.server import ACCOUNT

GROUP = "/aws/sagemaker/TransformJobs"
# A container that does as the first word of a body says, and answers with what it has seen.
SERVER = """
import collections, json, os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

seen, lock, running, most = collections.Counter(), threading.Lock(), 0, 0

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        limits = {"MaxConcurrentTransforms": 3, "MaxPayloadInMB": 1, "BatchStrategy": "SINGLE_RECORD"}
        self.answer(200, limits if self.path == "/execution-parameters" else {})

    def do_POST(self):
        global running, most
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with lock:
            seen[body] += 1
            running += 1
            most = max(most, running)
        word, _, number = body.partition(" ")
        if word == "slow":
            time.sleep(float(number))
        failing = word == "weak" and seen[body] <= int(number)
        status = {"bad": 400, "broken": 500}.get(word, 503 if failing else 200)
        with lock:
            running -= 1
        told = {k: v for k, v in os.environ.items() if k.startswith("SAGEMAKER_") or k == "OWN"}
        self.answer(status, {"body": body, "times": seen[body], "most": most, "told": told,
                             "type": self.headers["Content-Type"], "accept": self.headers["Accept"]})

    def answer(self, status, content):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        return

print("container begins", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def _own_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_server, "COMMAND", [sys.executable, "-c", SERVER])
    monkeypatch.setattr(transform_job, "PAUSE_SECONDS", 0.01)


@contextmanager
def refused(part: str) -> Iterator[None]:
    with pytest.raises(ClientError) as caught:
        yield
    assert part in str(caught.value)


class Jobs:
    """Transform jobs of one test, below a folder of its own in the bucket."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.name = name
        self.model = f"model-{name}"
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            tar.addfile(tarfile.TarInfo("bundle.json"))
        stage.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=packed.getvalue())
        stage.sagemaker.create_model(
            ModelName=self.model,
            PrimaryContainer={
                "Image": "111122223333.dkr.ecr.us-east-1.amazonaws.com/own:1",
                "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz",
                "Environment": {"OWN": "model"},
            },
            ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/rehearsal",
        )

    def put(self, *bodies: str, folder: str = "in") -> None:
        for number, body in enumerate(bodies):
            key = f"{self.name}/{folder}/{number}.jpg"
            self.stage.s3.put_object(Bucket=BUCKET, Key=key, Body=body.encode())

    def create(self, source: dict[str, str] | None = None, **more: Any) -> None:
        usual = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{self.name}/in/"}
        request: dict[str, Any] = {
            "TransformJobName": self.name,
            "ModelName": self.model,
            "TransformInput": {
                "DataSource": {"S3DataSource": source or usual},
                "ContentType": "application/x-image",
            },
            "TransformOutput": {
                "S3OutputPath": f"s3://{BUCKET}/{self.name}/out",
                "Accept": "application/json",
            },
            "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        }
        self.stage.sagemaker.create_transform_job(**{**request, **more})

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.stage.sagemaker.describe_transform_job(
            TransformJobName=self.name
        )
        return found

    def until(self, done: Callable[[dict[str, Any]], bool], seconds: float = 30) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if done(found := self.describe()):
                return found
            time.sleep(0.05)
        raise AssertionError(f"not so after {seconds} s: {found}")

    def run(self, source: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
        self.create(source, **more)
        return self.until(
            lambda found: found["TransformJobStatus"] in ("Completed", "Failed", "Stopped")
        )

    def answers(self) -> dict[str, Any]:
        prefix = f"{self.name}/out/"
        listed = self.stage.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {
            entry["Key"].removeprefix(prefix): json.loads(
                self.stage.s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
            )
            for entry in listed
        }

    def log(self, ending: str) -> list[str]:
        streams = self.stage.logs.describe_log_streams(
            logGroupName=GROUP, logStreamNamePrefix=f"{self.name}/"
        )["logStreams"]
        return [
            event["message"]
            for stream in streams
            if stream["logStreamName"].endswith("data-log") == (ending == "data-log")
            for event in self.stage.logs.get_log_events(
                logGroupName=GROUP, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]


def test_every_object_is_sent_once_and_answered_beside_its_name(stage: Stage) -> None:
    jobs = Jobs(stage, "transform-good")
    jobs.put("one", "two", "three")
    jobs.put("deep", folder="in/a/b")
    found = jobs.run(
        MaxConcurrentTransforms=2,
        MaxPayloadInMB=6,
        BatchStrategy="SingleRecord",
        Environment={"OWN": "job"},
    )
    assert found["TransformJobStatus"] == "Completed"
    assert found["CreationTime"] <= found["TransformStartTime"] <= found["TransformEndTime"]
    answers = jobs.answers()
    assert sorted(answers) == ["0.jpg.out", "1.jpg.out", "2.jpg.out", "a/b/0.jpg.out"]
    assert [answers[f"{n}.jpg.out"]["body"] for n in range(3)] == ["one", "two", "three"]
    one = answers["0.jpg.out"]
    assert (one["type"], one["accept"]) == ("application/x-image", "application/json")
    told = one["told"]
    assert told.pop("SAGEMAKER_BASE_DIR").endswith("/opt/ml")
    assert told.pop("SAGEMAKER_BIND_TO_PORT").isdigit()
    assert told == {
        "OWN": "job",
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "2",
    }
    assert "container begins" in jobs.log("machine")
    [summary] = stage.sagemaker.list_transform_jobs(NameContains="transform-good")[
        "TransformJobSummaries"
    ]
    assert summary["TransformJobStatus"] == "Completed"


def test_what_the_request_leaves_open_the_container_says(stage: Stage) -> None:
    jobs = Jobs(stage, "transform-open")
    jobs.put(*(f"slow 0.2{n}" for n in range(6)), "x" * (2**20 + 1))
    found = jobs.run()
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"] == "ClientError: See job logs for more information"
    answers = jobs.answers()
    assert len(answers) == 6
    assert max(each["most"] for each in answers.values()) == 3
    log = jobs.log("data-log")
    assert log[0] == (
        "[sagemaker logs]: MaxConcurrentTransforms=3, MaxPayloadInMB=1, BatchStrategy=SINGLE_RECORD"
    )
    where = f"[sagemaker logs]: {BUCKET}/transform-open/in/6.jpg"
    assert f"{where}: ClientError: Too much data for max payload size" in log


def test_weak_answers_are_asked_again_and_refusals_are_not(stage: Stage) -> None:
    jobs = Jobs(stage, "transform-weak")
    jobs.put("weak 2", "bad", "good", "broken")
    client = {"InvocationsMaxRetries": 2, "InvocationsTimeoutInSeconds": 20}
    found = jobs.run(ModelClientConfig=client)
    assert found["TransformJobStatus"] == "Failed"
    answers = jobs.answers()
    assert {name: each["times"] for name, each in answers.items()} == {
        "0.jpg.out": 3,
        "2.jpg.out": 1,
    }
    log = jobs.log("data-log")
    where = f"[sagemaker logs]: {BUCKET}/transform-weak/in"
    assert f"{where}/1.jpg: ClientError: 400" in log
    assert any(
        line.startswith(f'{where}/1.jpg: Message: {{"body": "bad", "times": 1') for line in log
    )
    assert any(
        line.startswith(f'{where}/3.jpg: Message: {{"body": "broken", "times": 3') for line in log
    )


def test_an_answer_that_takes_too_long_is_none(stage: Stage) -> None:
    jobs = Jobs(stage, "transform-late")
    jobs.put("slow 3")
    client = {"InvocationsMaxRetries": 0, "InvocationsTimeoutInSeconds": 1}
    found = jobs.run(ModelClientConfig=client)
    assert found["FailureReason"] == "AlgorithmError: See job logs for more information"
    assert any(
        "Unable to get response from algorithm: timed out" in x for x in jobs.log("data-log")
    )


def test_a_manifest_names_what_is_sent_and_machines_share_it(stage: Stage) -> None:
    jobs = Jobs(stage, "transform-manifest")
    jobs.put(*"abcdef")
    manifest = [
        {"prefix": f"s3://{BUCKET}/transform-manifest/"},
        *(f"in/{n}.jpg" for n in (0, 2, 5)),
    ]
    key = "transform-manifest/list.manifest"
    stage.s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(manifest).encode())
    source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/{key}"}
    resources = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}
    found = jobs.run(source, TransformResources=resources)
    assert found["TransformJobStatus"] == "Completed"
    answers = jobs.answers()
    assert {name: each["body"] for name, each in answers.items()} == {
        "in/0.jpg.out": "a",
        "in/2.jpg.out": "c",
        "in/5.jpg.out": "f",
    }
    assert len({each["told"]["SAGEMAKER_BIND_TO_PORT"] for each in answers.values()}) == 2


def test_a_stopped_job_leaves_no_answer(stage: Stage) -> None:
    jobs = Jobs(stage, "transform-stopped")
    jobs.put("quick", *(f"slow 0.4{n}" for n in range(9)))
    jobs.create()
    jobs.until(lambda found: "TransformStartTime" in found)
    stage.sagemaker.stop_transform_job(TransformJobName="transform-stopped")
    assert jobs.describe()["TransformJobStatus"] in ("Stopping", "Stopped")
    jobs.until(lambda found: found["TransformJobStatus"] == "Stopped")
    assert jobs.answers() == {}
    with refused("is in status Stopped"):
        stage.sagemaker.stop_transform_job(TransformJobName="transform-stopped")


def test_a_job_without_objects_or_without_a_model_fails_in_words(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(stage, "transform-empty")
    assert jobs.run()["FailureReason"].startswith("ClientError: No S3 objects found under S3 URL")
    silent = Jobs(stage, "transform-silent")
    silent.put("x")
    monkeypatch.setattr(model_server, "COMMAND", [sys.executable, "-c", "print('gone')"])
    reason = silent.run()["FailureReason"]
    assert reason.startswith("AlgorithmError: Model container failed to respond to ping")
    assert silent.log("machine") == ["gone"]
    missing = Jobs(stage, "transform-missing")
    missing.put("x")
    stage.s3.delete_object(Bucket=BUCKET, Key="transform-missing/model.tar.gz")
    assert "Could not find model data" in missing.run()["FailureReason"]


def test_what_the_service_refuses_is_refused(stage: Stage) -> None:
    jobs = Jobs(stage, "transform-refused")
    jobs.put("x")
    with refused("cannot exceed 100 MB"):
        jobs.create(MaxConcurrentTransforms=20, MaxPayloadInMB=6)
    with refused("Could not find model"):
        jobs.create(ModelName="nobody")
    with refused("there is no ml.m5.tiny"):
        jobs.create(TransformResources={"InstanceType": "ml.m5.tiny", "InstanceCount": 1})
    with refused("Could not find transform job"):
        jobs.describe()
    assert jobs.run()["TransformJobStatus"] == "Completed"
    with refused("already exists"):
        jobs.create()


def test_a_prefix_is_every_key_that_begins_so(stage: Stage) -> None:
    jobs = Jobs(stage, "transform-prefix")
    jobs.put("a", folder="in/x-one")
    jobs.put("b", folder="in/x-two")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/transform-prefix/in/x-"}
    assert jobs.run(source)["TransformJobStatus"] == "Completed"
    assert sorted(jobs.answers()) == ["x-one/0.jpg.out", "x-two/0.jpg.out"]

"""Training jobs of the rehearsal, seen through boto3 as a person would see them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from rehearsal.conftest import BUCKET, Stage
from sagelight.cli import main
from sagelight.cloud.client import Aws
from sagelight.cloud.door import main as cloud
from sagelight.cloud.follow import follow
from sagelight.cloud.settings import CloudSettings
from sagelight.debugging.trial import Trial
from sagelight.rehearsal.server import REGION
from sagelight.rehearsal.service import Refusal

GOOD = """
import json, os, pathlib
print("objective=0.25"); print("objective=0.75", flush=True)
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(os.environ["SM_CHANNEL_TRAINING"])
photos = sorted(p.name for p in pathlib.Path(os.environ["SM_CHANNEL_TRAINING"]).rglob("*.jpg"))
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "seen.json").write_text(json.dumps(photos))
# In one piece: unbuffered, print writes its arguments one by one, and the toolkit makes a line of each.
print(f"hello {os.environ['WHO']} {os.environ['TRAINING_JOB_NAME']}")
"""
SLOW = """
import time
print("begun", flush=True)
time.sleep(100)
"""
TOGETHER = """
import os, pathlib, torch
torch.distributed.init_process_group("gloo")
total = torch.ones(1)
torch.distributed.all_reduce(total)
rank = os.environ["RANK"]
print(f"rank {rank}", flush=True)
pathlib.Path(os.environ["SM_MODEL_DIR"], f"{rank}.txt").write_text(f"1 of {int(total)}")
torch.distributed.destroy_process_group()
"""
STEPS = """
import os, pathlib, time
folder = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "checkpoints")
step = int((folder / "step").read_text()) if (folder / "step").exists() else 0
print(f"from {step}", flush=True)
while step < 40:
    step += 1
    (folder / "step").write_text(str(step))
    time.sleep(0.2)
pathlib.Path(os.environ["SM_MODEL_DIR"], "step").write_text(str(step))
"""


def channel(prefix: str) -> list[dict[str, Any]]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}"}
    return [{"ChannelName": "training", "DataSource": {"S3DataSource": source}}]


def test_a_job_runs_and_tells_the_truth(stage: Stage) -> None:
    for name in ("a/1.jpg", "b/2.jpg"):
        stage.s3.put_object(Bucket=BUCKET, Key=f"photos/{name}", Body=b"x")
    found = stage.run("good", GOOD, InputDataConfig=channel("photos/"), Environment={"WHO": "you"})
    assert found["TrainingJobStatus"] == found["SecondaryStatus"] == "Completed"
    states = [each["Status"] for each in found["SecondaryStatusTransitions"]]
    assert states == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    (metric,) = found["FinalMetricDataList"]
    assert (metric["MetricName"], metric["Value"]) == ("objective", 0.75)
    assert found["Environment"] == {"WHO": "you"}
    model = stage.unpacked(found["ModelArtifacts"]["S3ModelArtifacts"])
    assert model["model.txt"].endswith(b"opt/ml/input/data/training")
    output = stage.unpacked(f"s3://{BUCKET}/jobs/good/output/output.tar.gz")
    assert output["seen.json"] == b'["1.jpg", "2.jpg"]'
    assert "hello you good" in stage.log("good")


def test_a_failing_program_gives_its_reason(stage: Stage) -> None:
    found = stage.run("bad", "raise ValueError('the cat is out')")
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("AlgorithmError: ExecuteUserScriptError:")
    # The toolkit cuts a traceback where its pipe happens to.
    assert "the cat is out" in found["FailureReason"]
    assert "ModelArtifacts" not in found or not found["ModelArtifacts"].get("S3ModelArtifacts")


def test_an_empty_channel_fails_as_the_service_says_it(stage: Stage) -> None:
    found = stage.run("empty", GOOD, InputDataConfig=channel("nothing-here/"))
    assert found["TrainingJobStatus"] == "Failed"
    assert "Data download failed: no object lies under" in found["FailureReason"]


def test_a_job_can_be_stopped(stage: Stage) -> None:
    stage.sagemaker.create_training_job(**stage.request("slow", SLOW))
    stage.until("slow", "begun")
    stage.sagemaker.stop_training_job(TrainingJobName="slow")
    found = stage.ended(lambda: stage.sagemaker.describe_training_job(TrainingJobName="slow"))
    assert found["TrainingJobStatus"] == found["SecondaryStatus"] == "Stopped"


def test_a_job_that_takes_too_long_is_stopped(stage: Stage) -> None:
    found = stage.run("long", SLOW, StoppingCondition={"MaxRuntimeInSeconds": 3})
    assert found["TrainingJobStatus"] == "Stopped"
    assert found["SecondaryStatus"] == "MaxRuntimeExceeded"


def test_an_interrupted_spot_job_continues_from_its_checkpoints(stage: Stage) -> None:
    request = stage.request(
        "spot",
        STEPS,
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/checkpoints/spot"},
    )
    stage.sagemaker.create_training_job(**request)
    stage.until("spot", "from 0")
    while not stage.s3.list_objects_v2(Bucket=BUCKET, Prefix="checkpoints/spot/").get("KeyCount"):
        pass
    with urlopen(Request(f"{stage.running.url}/rehearsal/interrupt/spot", method="POST")) as answer:
        assert answer.read() == b"interrupted\n"
    found = stage.ended(lambda: stage.sagemaker.describe_training_job(TrainingJobName="spot"))
    assert found["TrainingJobStatus"] == "Completed"
    assert "Interrupted" in [each["Status"] for each in found["SecondaryStatusTransitions"]]
    begun = [line for line in stage.log("spot") if line.startswith("from ")]
    assert begun[0] == "from 0"
    assert int(begun[1].split()[1]) > 0
    assert stage.unpacked(found["ModelArtifacts"]["S3ModelArtifacts"]) == {"step": b"40"}


def test_only_what_runs_can_be_interrupted(stage: Stage) -> None:
    with pytest.raises(HTTPError, match="404"):
        urlopen(Request(f"{stage.running.url}/rehearsal/interrupt/nobody", method="POST"))


def test_what_the_service_refuses_is_refused(stage: Stage) -> None:
    request = stage.request("refused", GOOD)
    cases = {
        "ValidationException": {**request, "RoleArn": "me-and-only-me-and-me"},
        "ResourceInUse": {**request, "TrainingJobName": "twin"},
    }
    stage.run("twin", "print('done')")
    for code, body in cases.items():
        with pytest.raises(ClientError) as refusal:
            stage.sagemaker.create_training_job(**body)
        assert refusal.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError, match="Requested resource not found"):
        stage.sagemaker.describe_training_job(TrainingJobName="nobody")
    with pytest.raises(ClientError, match="the rehearsal has no DescribeDomain"):
        stage.sagemaker.describe_domain(DomainId="d-0")


def test_throttled_calls_are_repeated_and_start_one_job(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = stage.running.sagemaker.call

    def throttled(operation: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append(operation)
        if len(asked) <= 2 or (operation.startswith("Describe") and len(asked) < 6):
            raise Refusal("ThrottlingException", "Rate exceeded")
        return real(operation, body)

    monkeypatch.setattr(stage.running.sagemaker, "call", throttled)
    aws = Aws(CloudSettings(name="rehearsal", endpoint_url=stage.running.url), REGION)
    aws.sagemaker.create_training_job(**stage.request("throttled", "print('done')"))
    state = follow(aws, "throttled", 0.5)
    assert state.status == "Completed"
    assert asked[:3] == ["CreateTrainingJob"] * 3
    assert asked.count("CreateTrainingJob") == 3
    assert asked[3] == "DescribeTrainingJob"


def test_two_machines_of_a_job_find_each_other_through_torchrun(stage: Stage) -> None:
    request = stage.request("two", TOGETHER)
    request["ResourceConfig"]["InstanceCount"] = 2
    request["HyperParameters"]["sagemaker_torch_distributed_enabled"] = "true"
    stage.sagemaker.create_training_job(**request)
    found = stage.ended(lambda: stage.sagemaker.describe_training_job(TrainingJobName="two"))
    assert found["TrainingJobStatus"] == "Completed", found["FailureReason"]
    model = stage.unpacked(found["ModelArtifacts"]["S3ModelArtifacts"])
    assert model == {"0.txt": b"1 of 2", "1.txt": b"1 of 2"}
    assert sorted(line for line in stage.log("two") if line.startswith("rank")) == [
        "rank 0",
        "rank 1",
    ]


def test_the_quota_is_counted(stage: Stage) -> None:
    stage.running.sagemaker.quota = 0
    try:
        with pytest.raises(ClientError, match="account-level service limit"):
            stage.sagemaker.create_training_job(**stage.request("quota", GOOD))
    finally:
        stage.running.sagemaker.quota = 100
    listed = stage.sagemaker.list_training_jobs()["TrainingJobSummaries"]
    assert "quota" not in [job["TrainingJobName"] for job in listed]


WATCHED = """
import json, os, pathlib, time
import numpy as np
from sagelight.debugging.records import Place
from sagelight.debugging.writer import TrialWriter
config = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "input/config/debughookconfig.json")
pathlib.Path(os.environ["SM_MODEL_DIR"], "asked.json").write_text(config.read_text())
writer = TrialWriter(pathlib.Path(json.loads(config.read_text())["LocalPath"]))
writer.collections({"losses": ["Loss_output_0"]})
for step in range(30):
    writer.write(Place(step, "TRAIN", step), {"Loss_output_0": np.float32(1)})
while os.environ["WAIT"] == "yes":
    time.sleep(0.1)
writer.close()
"""
RULES = [
    {
        "RuleConfigurationName": "Overfit",
        "RuleEvaluatorImage": "111122223333.dkr.ecr.us-east-1.amazonaws.com/rules:latest",
        "RuleParameters": {"rule_to_invoke": "Overfit"},
    }
]
HOOK = {
    "S3OutputPath": f"s3://{BUCKET}/jobs",
    "HookParameters": {"save_interval": "5"},
    "CollectionConfigurations": [{"CollectionName": "losses"}],
}


@pytest.mark.parametrize("local", [None, "/trial"])
def test_debugger_gets_its_file_and_its_tensors_but_no_verdicts(
    local: str | None, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"watched-{(local or 'default').count('/')}"
    hook = HOOK | ({"LocalPath": local} if local else {})
    found = stage.run(
        name,
        WATCHED,
        DebugHookConfig=hook,
        DebugRuleConfigurations=RULES,
        ProfilerRuleConfigurations=[{**RULES[0], "RuleConfigurationName": "ProfilerReport"}],
        Environment={"WAIT": "no"},
    )
    assert found["TrainingJobStatus"] == "Completed", found["FailureReason"]
    asked = json.loads(stage.unpacked(found["ModelArtifacts"]["S3ModelArtifacts"])["asked.json"])
    assert asked == HOOK | {"LocalPath": asked["LocalPath"]}
    assert "opt/ml" in asked["LocalPath"]
    assert asked["LocalPath"] not in ("/opt/ml/output/tensors", local)
    assert found["DebugHookConfig"] == hook
    for kind in ("DebugRule", "ProfilerRule"):
        (rule,) = found[f"{kind}EvaluationStatuses"]
        assert rule["RuleEvaluationStatus"] == "Stopped"
        assert rule["StatusDetails"].startswith("not evaluated: a rehearsal does not run AWS's")

    there = ["cloud=rehearsal", f"cloud.endpoint_url={stage.running.url}", f"cloud.region={REGION}"]
    assert cloud(["status", f"job={name}", *there]) == 0
    said = capsys.readouterr().out
    assert f"{name}: Completed\n  Stopped       Overfit: not evaluated: a rehearsal" in said
    trial = f"trial=s3://{BUCKET}/jobs/{name}"
    assert main(["debug", trial, "rules=[LossNotDecreasing]", *there]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"s3://{BUCKET}/jobs/{name}: 1 tensors, steps: 30 of TRAIN\n")
    assert "\nIssuesFound     LossNotDecreasing: " in said
    assert cloud(["fetch", f"job={name}", "output=fetched", *there]) == 0
    assert Trial.open(Path("fetched/debugger")).ended


def test_tensors_are_in_the_bucket_while_the_job_runs(stage: Stage) -> None:
    request = stage.request("growing", WATCHED, DebugHookConfig=HOOK, Environment={"WAIT": "yes"})
    stage.sagemaker.create_training_job(**request)
    deadline = time.monotonic() + 60
    listed: list[str] = []
    while not listed and time.monotonic() < deadline:
        answer = stage.s3.list_objects_v2(Bucket=BUCKET, Prefix="jobs/growing/debug-output/")
        listed = [each["Key"] for each in answer.get("Contents", ())]
        time.sleep(0.1)
    assert "jobs/growing/debug-output/training_job_end.ts" not in listed
    stage.sagemaker.stop_training_job(TrainingJobName="growing")
    found = stage.ended(lambda: stage.sagemaker.describe_training_job(TrainingJobName="growing"))
    assert found["TrainingJobStatus"] == "Stopped"
    assert "DebugRuleEvaluationStatuses" not in found

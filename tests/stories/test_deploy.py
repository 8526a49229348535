"""From a bundle to an endpoint that answers, is updated, and leaves nothing: rehearsed as a person types it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bundles import make_bundle, photo
from sagelight.cloud.command import SECONDS_BETWEEN_LOOKS
from sagelight.cloud.door import main as cloud
from sagelight.cloud.endpoint import Predictor
from sagelight.errors import CloudError
from sagelight.rehearsal.command import ROLE
from sagelight.rehearsal.server import ACCOUNT, REGION, Rehearsal
from sagelight.serving.predictor import Predictor as LocalPredictor
from stories.commands import ROOT, hear_ctrl_c, refused_by

DOOR = ROOT / "launch" / "sagemaker.py"
BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
# The service fails it: its server takes no such number.
UNABLE = "deploy.environment=['SAGELIGHT_TOP_K=0']"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bundles")
    return {
        "colours": make_bundle(root / "colours"),
        "letters": make_bundle(root / "letters", labels=["a", "b"]),
    }


@pytest.fixture(autouse=True)
def _exported(running: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What launch/rehearsal.py prints, typed into this terminal."""
    for name, value in {**running.environment, "SAGEMAKER_ROLE": ROLE}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SAGELIGHT_SCHEDULER_ROLE", raising=False)
    monkeypatch.setitem(SECONDS_BETWEEN_LOOKS, "aws", 0.1)
    photo("red", 40, 30).save("red.jpg")


@pytest.fixture
def client(running: Rehearsal) -> Any:
    import boto3

    return cache(lambda name: boto3.client(name, endpoint_url=running.url))


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must succeed; gives what it has printed."""
    capsys.readouterr()
    assert cloud(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def answer(capsys: pytest.CaptureFixture[str], name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        typed(capsys, "invoke", f"endpoint={name}", "input=red.jpg").splitlines()[-1]
    )
    return found


def begin_job(client: Any, name: str, program: str, **more: Any) -> None:
    """Start a training job that is one small program."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("job.py")
        entry.size = len(program)
        tar.addfile(entry, io.BytesIO(program.encode()))
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=f"source/{name}.tar.gz", Body=packed.getvalue())
    client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": "own:1", "TrainingInputMode": "File"},
        RoleArn=ROLE,
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/elsewhere"},
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 100},
        HyperParameters={
            "sagemaker_program": "job.py",
            "sagemaker_submit_directory": f"s3://{BUCKET}/source/{name}.tar.gz",
            "sagemaker_region": REGION,
        },
        **more,
    )


def wait_ended(client: Any, name: str, seconds: float = 90) -> str:
    """Wait for a training job's end; gives its status."""
    deadline, status = time.monotonic() + seconds, "InProgress"
    while status == "InProgress" and time.monotonic() < deadline:
        time.sleep(0.1)
        found = client("sagemaker").describe_training_job(TrainingJobName=name)
        status = found["TrainingJobStatus"]
    return status


def test_bundle_to_endpoint_to_update_to_nothing(
    bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["deploy", f"bundle={bundles['colours']}", "endpoint=colours"]
    said = typed(capsys, *words)
    assert "colours: Creating\n" in said
    assert "colours: InService after" in said
    assert "remove  python launch/sagemaker.py cleanup endpoint=colours" in said

    local = LocalPredictor.load(bundles["colours"])
    pixels = local.spec.preprocessing(Path("red.jpg"))
    [expected] = local.probabilities(np.stack([pixels]))
    found = answer(capsys, "colours")
    assert found["label"] == "red"
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)

    # The line that the first users wrote, as they wrote it.
    img_bytes = Path("red.jpg").read_bytes()
    predictor = Predictor("colours")
    response = predictor.predict(img_bytes, initial_args={"ContentType": "image/jpeg"})
    assert response == found

    assert "colours has this configuration already" in typed(capsys, *words)
    said = typed(capsys, "deploy", f"bundle={bundles['letters']}", "endpoint=colours")
    assert "colours goes on answering with what it has until the new is in service" in said
    assert answer(capsys, "colours")["label"] in "ab"

    said = typed(capsys, "cleanup", "all=true", "dry_run=true")
    assert (
        "endpoint  colours: InService, 1 x ml.m5.large: 1 instance-hour an hour, to go 20" in said
    )
    assert answer(capsys, "colours")["label"] in "ab"
    said = typed(capsys, "cleanup", "all=true")
    assert "deleted   endpoint colours (1 x ml.m5.large: 1 instance-hour an hour)" in said
    assert said.count("deleted   model tiny-net-") == 2
    assert typed(capsys, "cleanup", "all=true") == "nothing of sagelight's is left in us-east-1\n"
    assert "no such endpoint in us-east-1" in refused_by(
        cloud, capsys, "invoke", "endpoint=colours", "input=red.jpg"
    )


def test_what_fails_leaves_nothing_and_what_answered_goes_on(
    bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["deploy", f"bundle={bundles['colours']}", "endpoint=firm"]
    message = refused_by(cloud, capsys, *words, UNABLE)
    assert "firm failed: The primary container for production variant AllTraffic did not" in message
    assert "It has been removed, and costs nothing. The end of its log:" in message
    assert "SAGELIGHT_TOP_K=0" in message
    assert typed(capsys, "cleanup", "all=true") == "nothing of sagelight's is left in us-east-1\n"

    typed(capsys, *words)
    message = refused_by(cloud, capsys, *words, UNABLE)
    assert "the update of firm failed: The primary container" in message
    assert "It goes on answering with what it had." in message
    assert answer(capsys, "firm")["label"] == "red"
    said = typed(capsys, "cleanup", "endpoint=firm")
    assert said.count("deleted ") == 3


def test_serverless_and_asynchronous_endpoints_are_asked_alike(
    bundles: dict[str, Path],
    running: Rehearsal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for mode in ("serverless", "async"):
        words = [f"bundle={bundles['colours']}", f"endpoint={mode}", f"mode={mode}"]
        typed(capsys, "deploy", *words)
        assert answer(capsys, mode)["label"] == "red"
    Path("none.jpg").write_bytes(b"none")
    message = refused_by(cloud, capsys, "invoke", "endpoint=async", "input=none.jpg")
    assert "the endpoint refused the image: Received client error (4" in message
    message = refused_by(cloud, capsys, "deploy", f"bundle={bundles['colours']}", "endpoint=async")
    assert "endpoint=async is there with mode=async, and an update does not change that" in message
    Path("large.jpg").write_bytes(b"\xff\xd8\xff" + bytes(4_194_304))
    message = refused_by(cloud, capsys, "invoke", "endpoint=serverless", "input=large.jpg")
    assert "large.jpg has 4,194,307 bytes, and a serverless endpoint takes 4,194,304." in message
    said = typed(capsys, "cleanup", "all=true", "dry_run=true")
    assert "endpoint  serverless: InService, nothing while nobody asks, to go" in said
    # An address is enough: a rehearsal asks for no keys of yours.
    with monkeypatch.context() as elsewhere:
        for name in running.environment:
            elsewhere.delenv(name)
        Predictor("serverless", endpoint_url=running.url).delete_endpoint()
    typed(capsys, "cleanup", "endpoint=async")
    with pytest.raises(CloudError, match="no such endpoint"):
        Predictor("serverless").delete_endpoint()


def test_autoscaling_comes_and_goes_with_the_endpoint(
    bundles: dict[str, Path], client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def scaled() -> list[tuple[int, int]]:
        found = client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=["endpoint/busy/variant/AllTraffic"]
        )
        return [(each["MinCapacity"], each["MaxCapacity"]) for each in found["ScalableTargets"]]

    words = ["deploy", f"bundle={bundles['colours']}", "endpoint=busy"]
    typed(capsys, *words, "deploy.max_instances=3")
    assert scaled() == [(1, 3)]
    typed(capsys, *words)
    assert scaled() == []
    typed(capsys, *words, "deploy.max_instances=4")
    typed(capsys, "cleanup", "endpoint=busy")
    assert scaled() == []


def test_time_to_live(
    bundles: dict[str, Path], client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sagemaker = client("sagemaker")

    def names() -> set[str]:
        return {each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]}

    brief = [f"bundle={bundles['colours']}", "deploy.hours=0.0001"]
    typed(capsys, "deploy", *brief, "endpoint=tagged")
    typed(capsys, "deploy", f"bundle={bundles['colours']}", "endpoint=lasting")
    time.sleep(1)
    # Without a role for the scheduler, only a tag says so, and this obeys it.
    assert names() == {"tagged", "lasting"}
    typed(capsys, "cleanup", "expired=true")
    assert names() == {"lasting"}
    assert typed(capsys, "cleanup", "expired=true") == "nothing expired is left in us-east-1\n"

    ended = [f"deploy.scheduler_role={ROLE}", "cloud.follow=false"]
    said = typed(capsys, "deploy", *brief, "endpoint=lasting", *ended)
    assert "lasting is on its way. Repeat the same command to follow it again" in said
    deadline = time.monotonic() + 20
    while names() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert names() == set()
    # The endpoint is gone by itself; what it was made of costs nothing, and goes too.
    assert "deleted   configuration lasting-" in typed(capsys, "cleanup", "all=true")


def test_what_somebody_else_made_is_left_alone(
    bundles: dict[str, Path], client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sagemaker = client("sagemaker")
    typed(capsys, "deploy", f"bundle={bundles['colours']}", "endpoint=ours")
    config = sagemaker.describe_endpoint(EndpointName="ours")["EndpointConfigName"]
    sagemaker.create_endpoint(EndpointName="theirs", EndpointConfigName=config)
    while sagemaker.describe_endpoint(EndpointName="theirs")["EndpointStatus"] == "Creating":
        time.sleep(0.05)
    message = refused_by(cloud, capsys, "cleanup", "endpoint=theirs")
    assert message.startswith("endpoint=theirs was not made by sagelight, and is left alone.")
    message = refused_by(cloud, capsys, "deploy", f"bundle={bundles['letters']}", "endpoint=theirs")
    assert message.startswith("endpoint=theirs is there, and was not made by sagelight.")
    assert "endpoint ours" in typed(capsys, "cleanup", "all=true")
    found = sagemaker.list_endpoints()["Endpoints"]
    assert [each["EndpointName"] for each in found] == ["theirs"]
    sagemaker.delete_endpoint(EndpointName="theirs")


def test_ctrl_c_while_it_is_made_says_what_goes_on_and_how_to_come_back(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["deploy", f"bundle={bundles['colours']}", "endpoint=left"]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        clock = SimpleNamespace(sleep=interrupt, monotonic=time.monotonic)
        patched.setattr("sagelight.cloud.endpoint_follow.time", clock)
        assert cloud(words) == 130
    said = capsys.readouterr().err
    assert "left goes on, and is paid from when it is in service." in said
    assert "cleanup endpoint=left to remove it" in said
    # While it is created nothing can delete it; cleanup waits for that.
    said = typed(capsys, "cleanup", "endpoint=left")
    assert "deleted   endpoint left" in said
    assert typed(capsys, "cleanup", "all=true") == "nothing of sagelight's is left in us-east-1\n"


@pytest.mark.parametrize(
    ("operation", "left"), [("CreateEndpointConfig", False), ("CreateEndpoint", True)]
)
def test_ctrl_c_in_a_call_takes_back_what_costs_nothing_and_names_what_might(
    operation: str,
    left: bool,
    bundles: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from botocore.client import BaseClient

    call = BaseClient._make_api_call

    def interrupted(client: Any, name: str, arguments: Any) -> Any:
        answer = call(client, name, arguments)
        if name == operation:
            raise KeyboardInterrupt
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(BaseClient, "_make_api_call", interrupted)
        assert cloud(["deploy", f"bundle={bundles['colours']}", "endpoint=cut"]) == 130
    said = capsys.readouterr().err
    assert ("cut may have been asked for. Type python launch/sagemaker.py cleanup" in said) == left
    said = typed(capsys, "cleanup", "endpoint=cut")
    assert ("deleted   endpoint cut" in said) == left
    typed(capsys, "cleanup", "all=true")


def test_jobs_that_run_are_named_and_stopped_when_asked(
    client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sagemaker = client("sagemaker")
    tags = {"ours-runs": [{"Key": "sagelight", "Value": "true"}], "theirs-runs": []}
    for name, theirs in tags.items():
        begin_job(client, name, "import time\ntime.sleep(60)\n", Tags=theirs)
    said = typed(capsys, "cleanup", "all=true")
    assert "runs      training job ours-runs: paid until it ends. Type stop job=ours-runs" in said
    assert "theirs-runs" not in said
    said = typed(capsys, "cleanup", "all=true", "jobs=true")
    assert "stopping  training job ours-runs" in said
    for name, status in (("ours-runs", "Stopping"), ("theirs-runs", "InProgress")):
        found = sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
        assert found in (status, "Stopped")
    sagemaker.stop_training_job(TrainingJobName="theirs-runs")


def test_without_a_rehearsal_that_stays_deploy_is_one_until_ctrl_c(
    bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    command = [sys.executable, str(DOOR), "deploy", f"bundle={bundles['colours']}"]
    process = subprocess.Popen(
        [*command, "endpoint=here", "cloud=rehearsal"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=hear_ctrl_c,
    )
    with process:
        try:
            assert process.stdout is not None
            printed = next(line for line in process.stdout if "cloud.endpoint_url=" in line)
            words = printed.replace("photo.jpg", "red.jpg").split()[2:]
            assert json.loads(typed(capsys, *words))["label"] == "red"
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert "ending the rehearsal and its endpoint" in process.stderr.read()


def test_a_job_is_deployed_by_its_name(
    bundles: dict[str, Path], client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job whose program leaves a bundle, and one that leaves nothing, as a study without hpo.retrain does."""
    program = (
        "import os, shutil\n"
        f"shutil.copytree({str(bundles['colours'])!r}, os.environ['SM_MODEL_DIR'], dirs_exist_ok=True)\n"
    )
    begin_job(client, "leaves", program)
    begin_job(client, "leaves-nothing", "")
    assert "has left no bundle: it is InProgress" in refused_by(
        cloud, capsys, "deploy", "job=leaves"
    )
    for name in ("leaves", "leaves-nothing"):
        assert wait_ended(client, name) == "Completed"
    typed(capsys, "deploy", "job=leaves")
    assert answer(capsys, "leaves")["label"] == "red"
    message = refused_by(cloud, capsys, "deploy", "job=leaves-nothing")
    assert "job=leaves-nothing has left no bundle" in message
    assert "A study leaves one with hpo.retrain=true" in message
    assert "no training or tuning job of that name" in refused_by(
        cloud, capsys, "deploy", "job=nobody"
    )
    typed(capsys, "cleanup", "all=true")

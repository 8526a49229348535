"""Golden requests of endpoints; each passes AWS's own description of its service.

After a wanted change: SAGELIGHT_GOLDEN=write pytest tests/cloud/test_deploy_requests.py, and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cloud.endpoints import SCHEDULER, model, wish
from sagelight.cloud.contract import violations
from sagelight.cloud.endpoint_request import calls_of, config_body, schedule_name, update_body
from sagelight.cloud.endpoint_rules import endpoint_problems

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
OWN = "deploy.image=own"
REQUESTS = {
    "deploy-realtime": [OWN],
    "deploy-serverless": [
        "mode=serverless",
        "deploy.memory_mb=4096",
        "deploy.provisioned_concurrency=2",
        f"deploy.scheduler_role={SCHEDULER}",
    ],
    "deploy-async": [
        "mode=async",
        "deploy.success_topic=arn:aws:sns:eu-west-1:111122223333:done",
        "deploy.error_topic=arn:aws:sns:eu-west-1:111122223333:failed",
        "deploy.concurrent_per_instance=4",
        "deploy.min_instances=0",
        "deploy.max_instances=3",
        "deploy.target_per_instance=1",
        "cloud.kms_key=alias/photos",
        "deploy.hours=null",
    ],
    "deploy-scaled": [
        "deploy.instance_count=2",
        "deploy.max_instances=6",
        "deploy.rollout=rolling",
        "deploy.rollback_alarms=[errors-5xx,slow]",
        f"deploy.scheduler_role={SCHEDULER}",
    ],
    "deploy-walled": [
        OWN,
        "cloud.subnets=[subnet-0a1b,subnet-2c3d]",
        "cloud.security_groups=[sg-0a1b]",
        "cloud.kms_key=arn:aws:kms:eu-west-1:111122223333:key/abc",
        "cloud.network_isolation=true",
        "cloud.tags=['team=vision','cost=42']",
        "deploy.capture_percent=20",
        "deploy.volume_gb=20",
    ],
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_the_golden_ones_and_the_services_would_take_them(name: str) -> None:
    asked = wish(*REQUESTS[name])
    calls = list(calls_of(asked, model(asked)))
    update = update_body(asked, config_body(asked, "other")["EndpointConfigName"])
    shown = {call.operation: call.body for call in calls} | {"UpdateEndpoint": update}
    text = json.dumps(shown, indent=2) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("SAGELIGHT_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    assert endpoint_problems(asked) == []
    for call in calls:
        assert violations(call.operation, call.body, call.service) == []
    assert violations("UpdateEndpoint", update) == []


def test_names_are_contents_and_know_nothing_of_the_time() -> None:
    first, later = wish(OWN), wish(OWN, "deploy.hours=48")
    assert model(first) == model(later)
    assert config_body(first, "m") == config_body(later, "m")
    others = [
        config_body(wish(OWN, "deploy.instance_count=2"), "m"),
        config_body(wish(OWN, "endpoint=trees"), "m"),
        config_body(first, "another"),
    ]
    names = {body["EndpointConfigName"] for body in [config_body(first, "m"), *others]}
    assert len(names) == 4


@pytest.mark.parametrize("length", [1, 52, 53, 54, 55, 63])
def test_long_names_keep_within_every_limit(length: int) -> None:
    asked = wish(OWN, f"endpoint={'n' * length}", f"deploy.scheduler_role={SCHEDULER}")
    for call in calls_of(asked, model(asked)):
        assert violations(call.operation, call.body, call.service) == []
    assert len({schedule_name("n" * length), schedule_name("n" * length + "m")}) == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["endpoint=my_flowers"], "Type endpoint=my-flowers"),
        ([f"endpoint={'n' * 64}"], "at most 63"),
        (["deploy.memory_mb=1024"], "deploy.memory_mb is for mode=serverless"),
        (["mode=serverless", "deploy.memory_mb=1500"], "must be one of 1024, 2048, 3072, 4096, 5120, 6144"),
        (["mode=serverless", "deploy.memory_mb=7168"], "must be one of"),
        (["mode=serverless", "deploy.provisioned_concurrency=9"], "Type deploy.max_concurrency=9"),
        (["mode=serverless", "cloud.subnets=[s]", "cloud.security_groups=[g]"], "a serverless endpoint has no VPC"),
        (["mode=serverless", "cloud.network_isolation=true"], "has no network isolation"),
        (["mode=serverless", "cloud.kms_key=k"], "a serverless endpoint has no machine"),
        (["mode=serverless", "deploy.capture_percent=5"], "deploy.capture_percent is for mode=realtime"),
        (["mode=serverless", "deploy.instance_count=2"], "deploy.instance_count is for mode=realtime and mode=async"),
        (["mode=serverless", "deploy.rollback_alarms=[a]"], "deploy.rollback_alarms is for mode=realtime and mode=async"),
        (["mode=async", "deploy.capture_percent=5"], "deploy.capture_percent is for mode=realtime"),
        (["mode=async", "deploy.async_output=answers"], "Type deploy.async_output=s3://BUCKET/FOLDER"),
        (["deploy.instance_type=ml.g5.xlarge"], "has a GPU, which would be paid and idle"),
        (["deploy.instance_type=ml.c7g.large"], "has an ARM processor"),
        (["deploy.max_instances=4", "deploy.min_instances=0"], "only asynchronous endpoints go down to none"),
        (["deploy.max_instances=4", "deploy.min_instances=2"], "deploy.instance_count=1 is where autoscaling begins"),
        (["deploy.min_instances=2"], "Type deploy.max_instances=N, too"),
        (["deploy.max_instances=4", "deploy.instance_type=ml.t2.medium"], "burstable machines"),
        (["deploy.max_instances=4", "cloud.follow=false"], "Type cloud.follow=true"),
        (["deploy.rollout=rolling"], "Type deploy.instance_count=2"),
        (["deploy.environment=[A]"], "deploy.environment: A is no KEY=VALUE"),
        (["deploy.capture_output=s3://b/c"], "Type deploy.capture_percent=10"),
    ],
)  # fmt: skip
def test_what_aws_would_refuse_or_waste_is_a_problem(words: list[str], part: str) -> None:
    problems = endpoint_problems(wish(*words))
    assert len([problem for problem in problems if part in problem]) == 1, problems

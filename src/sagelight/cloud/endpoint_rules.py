"""What SageMaker documents of endpoints in prose, and would refuse or waste money on: not in the service model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sagelight.cloud.endpoint_request import Wish
from sagelight.cloud.endpoint_settings import ASYNC, REALTIME, SERVERLESS, EndpointSettings
from sagelight.cloud.place import gpus
from sagelight.cloud.rules import pair_problems
from sagelight.config.setting import AUTO

LONGEST_NAME = 63
MEMORY_STEP = 1024
# Which modes a setting is for, where not for all.
_MODES = {
    (SERVERLESS,): ("memory_mb", "max_concurrency", "provisioned_concurrency"),
    (ASYNC,): (
        "async_output",
        "async_failures",
        "success_topic",
        "error_topic",
        "concurrent_per_instance",
    ),
    (REALTIME,): ("capture_percent", "capture_output"),
    (REALTIME, ASYNC): (
        "instance_type",
        "instance_count",
        "min_instances",
        "max_instances",
        "target_per_instance",
        "scale_out_seconds",
        "scale_in_seconds",
        "startup_seconds",
        "download_seconds",
        "volume_gb",
        "rollout",
        "rollback_alarms",
    ),
}


def endpoint_problems(wish: Wish) -> list[str]:
    """Every documented rule that a wish breaks, each with what to type."""
    rules = [_name, _misplaced, _serverless, _machines, _scaling, _rollout, _places]
    found = [problem for rule in rules for problem in rule(wish)]
    return [*found, *pair_problems("deploy.environment", wish.deploy.environment)]


def _name(wish: Wish) -> Iterator[str]:
    name = wish.endpoint
    if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*", name) or len(name) > LONGEST_NAME:
        better = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")[:LONGEST_NAME].strip("-")
        yield (
            f"endpoint={name}: a name has letters, digits and dashes inside, at most {LONGEST_NAME}. "
            f"Type endpoint={better or 'photos'}"
        )


def _misplaced(wish: Wish) -> Iterator[str]:
    usual = EndpointSettings()
    for modes, names in _MODES.items():
        for name in names:
            value = getattr(wish.deploy, name)
            if wish.mode not in modes and value != getattr(usual, name):
                yield f"deploy.{name} is for mode={' and mode='.join(modes)}. Leave it out"


def _serverless(wish: Wish) -> Iterator[str]:
    deploy, cloud = wish.deploy, wish.cloud
    if wish.mode != SERVERLESS:
        return
    if deploy.memory_mb not in range(MEMORY_STEP, 6 * MEMORY_STEP + 1, MEMORY_STEP):
        steps = ", ".join(str(n * MEMORY_STEP) for n in range(1, 7))
        yield f"deploy.memory_mb={deploy.memory_mb}: must be one of {steps}"
    if deploy.provisioned_concurrency > deploy.max_concurrency:
        yield (
            f"deploy.provisioned_concurrency={deploy.provisioned_concurrency} is above deploy.max_concurrency="
            f"{deploy.max_concurrency}, and it is a part of it. Type deploy.max_concurrency={deploy.provisioned_concurrency}"
        )
    if cloud.subnets or cloud.security_groups:
        yield "a serverless endpoint has no VPC. Leave cloud.subnets and cloud.security_groups out, or type mode=realtime"
    if cloud.has_no_network:
        off = cloud.isolation.replace("true", "false")
        yield f"a serverless endpoint has no network isolation. Type {off} or mode=realtime"
    if cloud.kms_key:
        yield "cloud.kms_key encrypts a machine's disk, and a serverless endpoint has no machine. Leave it out, or type mode=realtime"


def _machines(wish: Wish) -> Iterator[str]:
    kind = wish.deploy.instance_type
    if wish.mode == SERVERLESS or wish.deploy.image != AUTO:
        return
    if gpus(kind, wish.place.region):
        yield (
            f"deploy.instance_type={kind} has a GPU, which would be paid and idle: bundles run on the CPU. "
            "Type deploy.instance_type=ml.c6i.xlarge, or deploy.image=URI of an image of your own that uses it"
        )
    if re.match(r"ml\.[a-z]+\d+g[a-z]*\.", kind) and not re.match(r"ml\.g\d", kind):
        yield (
            f"deploy.instance_type={kind} has an ARM processor, and AWS's image is for x86. "
            "Type deploy.instance_type=ml.c6i.large, or deploy.image=URI of an image of your own for ARM"
        )


def _scaling(wish: Wish) -> Iterator[str]:
    deploy = wish.deploy
    if not wish.scales:
        if deploy.min_instances != 1 and wish.mode != SERVERLESS:
            yield "deploy.min_instances is for autoscaling. Type deploy.max_instances=N, too, or leave it out"
        return
    if not deploy.min_instances <= deploy.instance_count <= wish.machines:
        yield (
            f"deploy.instance_count={deploy.instance_count} is where autoscaling begins, between deploy.min_instances="
            f"{deploy.min_instances} and deploy.max_instances={deploy.max_instances}"
        )
    if deploy.min_instances == 0 and wish.mode != ASYNC:
        yield "deploy.min_instances=0: only asynchronous endpoints go down to none. Type mode=async, mode=serverless, or 1"
    if re.match(r"ml\.t\d", deploy.instance_type):
        yield (
            f"deploy.instance_type={deploy.instance_type}: autoscaling leaves burstable machines alone. "
            "Type deploy.instance_type=ml.m5.large, or leave deploy.max_instances out"
        )
    if not wish.cloud.follow:
        yield "autoscaling is set up when the endpoint answers. Type cloud.follow=true, or leave deploy.max_instances out"


def _rollout(wish: Wish) -> Iterator[str]:
    if wish.deploy.rollout == "rolling" and wish.deploy.instance_count < 2:
        yield (
            "deploy.rollout=rolling replaces at most half of the machines at a time, and there is one. "
            "Type deploy.instance_count=2 or deploy.rollout=blue_green"
        )


def _places(wish: Wish) -> Iterator[str]:
    for name in ("async_output", "async_failures", "capture_output"):
        value = getattr(wish.deploy, name)
        if value != AUTO and not re.match(r"s3://[^/]", value):
            yield f"deploy.{name}={value}: answers are written to S3. Type deploy.{name}=s3://BUCKET/FOLDER"
    if wish.deploy.capture_output != AUTO and not wish.deploy.capture_percent:
        yield "deploy.capture_output is for what is kept. Type deploy.capture_percent=10, too, or leave it out"

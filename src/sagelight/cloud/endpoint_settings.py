"""How an endpoint serves, on what, for how long; and the settings of the verbs on endpoints."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import group, setting

REALTIME, SERVERLESS, ASYNC = "realtime", "serverless", "async"
# The role with which EventBridge Scheduler deletes endpoints whose time is over.
SCHEDULER_VARIABLE = "SAGELIGHT_SCHEDULER_ROLE"
MODES = (REALTIME, SERVERLESS, ASYNC)


@dataclass
class EndpointSettings:
    instance_type: str = setting(
        "ml.m5.large", "Kind of machine that answers; the model runs on CPUs."
    )
    instance_count: int = setting(1, "Machines that answer.", least=1)
    image: str = setting(
        "auto",
        "URI of the image that serves: yours, from this project's Dockerfile; auto is AWS's newest, which is old.",
    )
    environment: list[str] = setting(
        [], "Environment variables of the container, such as ['SAGELIGHT_BATCH_SIZE=8']."
    )
    hours: float | None = setting(
        24.0,
        "Time to live: hours after which the endpoint is to be deleted; null for ever.",
        above=0,
    )
    scheduler_role: str = setting(
        "auto",
        "ARN of a role with which EventBridge Scheduler deletes it then; auto is SAGELIGHT_SCHEDULER_ROLE.",
    )
    memory_mb: int = setting(2048, "mode=serverless: memory, 1024 to 6144 in steps of 1024.")
    max_concurrency: int = setting(
        5, "mode=serverless: requests that are answered at once.", least=1, most=200
    )
    provisioned_concurrency: int = setting(
        0, "mode=serverless: of those, how many are kept warm, and paid.", least=0, most=200
    )
    async_output: str = setting(
        "auto", "mode=async: S3 folder of the answers; auto is <cloud.prefix>/async/<endpoint>."
    )
    async_failures: str = setting(
        "auto",
        "mode=async: S3 folder of what went wrong; auto is failures below deploy.async_output.",
    )
    success_topic: str | None = setting(
        None, "mode=async: ARN of the SNS topic that hears of answers."
    )
    error_topic: str | None = setting(
        None, "mode=async: ARN of the SNS topic that hears of failures."
    )
    concurrent_per_instance: int | None = setting(
        None, "mode=async: requests that one machine works on at once.", least=1, most=1000
    )
    max_instances: int | None = setting(
        None, "Autoscaling: the most machines; null always has deploy.instance_count.", least=1
    )
    min_instances: int = setting(
        1, "Autoscaling: the fewest machines; 0 is for mode=async.", least=0
    )
    target_per_instance: float = setting(
        600.0,
        "Autoscaling: invocations a minute that a machine should have; mode=async: requests that wait for it.",
        above=0,
    )
    scale_out_seconds: int = setting(
        60, "Autoscaling: pause after adding machines.", least=0, most=3600
    )
    scale_in_seconds: int = setting(
        300, "Autoscaling: pause after taking machines away.", least=0, most=3600
    )
    capture_percent: int = setting(
        0,
        "mode=realtime: share of requests and answers that is kept in S3, photos included.",
        least=0,
        most=100,
    )
    capture_output: str = setting(
        "auto", "S3 folder of what is kept; auto is <cloud.prefix>/captured."
    )
    startup_seconds: int = setting(
        600, "Time that the container has until it answers /ping.", least=60, most=3600
    )
    download_seconds: int = setting(600, "Time to fetch and unpack the model.", least=60, most=3600)
    volume_gb: int | None = setting(
        None, "Disk of each machine in GB; null is what its kind has.", least=1, most=512
    )
    rollout: str = setting(
        "blue_green",
        "How an update replaces machines: all at once beside the old ones, or by halves.",
        choices=("blue_green", "rolling"),
    )
    rollback_alarms: list[str] = setting(
        [], "CloudWatch alarms that take an update back, such as [errors-5xx]."
    )


@dataclass
class DeploySettings:
    job: str | None = setting(None, "Training job, or study, whose bundle answers.")
    bundle: str | None = setting(None, "Or a bundle: its folder, or s3://.../model.tar.gz.")
    endpoint: str = setting(
        "auto", "Name of the endpoint; one that is there is updated, and goes on answering."
    )
    mode: str = setting(
        REALTIME,
        "realtime: machines that wait; serverless: none while idle, slow first answer; async: answers in S3.",
        choices=MODES,
    )
    dry_run: bool = setting(False, "Print plan and requests, and send nothing.")
    deploy: EndpointSettings = group(EndpointSettings)
    cloud: CloudSettings = group(CloudSettings)


@dataclass
class InvokeSettings:
    endpoint: str | None = setting(None, "Name of the endpoint, as it was printed.")
    input: str | None = setting(None, "The photo.")
    accept: str = setting(
        "application/json", "Kind of answer.", choices=("application/json", "text/csv")
    )
    content_type: str = setting("auto", "Kind of photo; auto looks at its first bytes.")
    timeout_seconds: int = setting(
        900, "Asynchronous endpoints: longest time to wait for the answer.", least=1
    )
    cloud: CloudSettings = group(CloudSettings)


@dataclass
class CleanupSettings:
    endpoint: str | None = setting(None, "Delete this endpoint and what belongs to it.")
    all: bool = setting(False, "Delete every endpoint and model of sagelight's in the region.")
    expired: bool = setting(False, "Delete the endpoints whose time to live is over.")
    jobs: bool = setting(False, "With all=true: stop the jobs that still run, too.")
    dry_run: bool = setting(False, "Only list them, and what they cost.")
    cloud: CloudSettings = group(CloudSettings)

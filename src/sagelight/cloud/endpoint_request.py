"""Pure functions from settings to the requests that make an endpoint, and let it scale and end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sagelight.cloud.endpoint_settings import ASYNC, REALTIME, SERVERLESS, EndpointSettings
from sagelight.cloud.models import name_of
from sagelight.cloud.request import OURS, Place, disk_key, tags_of
from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import AUTO

VARIANT = "AllTraffic"
ENDPOINT_TAG = f"{OURS}:endpoint"
EXPIRES_TAG = f"{OURS}:expires"
SCHEDULES = f"{OURS}-"
TIME = "%Y-%m-%dT%H:%M:%SZ"
SCALED = "sagemaker:variant:DesiredInstanceCount"
POLICY = f"{OURS}-load"
SAGEMAKER, SCALING, SCHEDULER = "sagemaker", "application-autoscaling", "scheduler"
_SCHEDULE_LENGTH = 64
# AWS takes an update back that has not ended by then; two hours may be asked for the start of a container alone.
_UPDATE_SECONDS = 14400
# New machines are watched so long by the alarms before the old ones go.
_WATCHED_SECONDS = 300


@dataclass(frozen=True)
class Call:
    """One call of an API."""

    service: str
    operation: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """An endpoint as it is wanted.

    Attributes:
        expires: when it is to be deleted, in UTC; None for never.
        scheduler_role: ARN of the role that deletes it then; None where nothing will.
    """

    endpoint: str
    mode: str
    deploy: EndpointSettings
    cloud: CloudSettings
    place: Place
    expires: datetime | None
    scheduler_role: str | None

    @property
    def scales(self) -> bool:
        return self.deploy.max_instances is not None and self.mode != SERVERLESS

    @property
    def machines(self) -> int:
        """The most machines that answer at once."""
        return self.deploy.max_instances or self.deploy.instance_count

    @property
    def resource(self) -> str:
        """What Application Auto Scaling calls it."""
        return f"endpoint/{self.endpoint}/variant/{VARIANT}"


def calls_of(wish: Wish, model: dict[str, Any]) -> Iterator[Call]:
    """Every call that makes the endpoint, in the order in which they are sent."""
    yield Call(SAGEMAKER, "CreateModel", model)
    config = config_body(wish, str(model["ModelName"]))
    yield Call(SAGEMAKER, "CreateEndpointConfig", config)
    if wish.expires and wish.scheduler_role:
        yield Call(SCHEDULER, "CreateSchedule", schedule_body(wish))
    yield Call(SAGEMAKER, "CreateEndpoint", endpoint_body(wish, config["EndpointConfigName"]))
    if wish.scales:
        yield Call(SCALING, "RegisterScalableTarget", target_body(wish))
        yield Call(SCALING, "PutScalingPolicy", policy_body(wish))


def config_body(wish: Wish, model: str) -> dict[str, Any]:
    """CreateEndpointConfig; equal contents have an equal name."""
    variant = {"VariantName": VARIANT, "ModelName": model, "InitialVariantWeight": 1.0}
    body: dict[str, Any] = {
        "ProductionVariants": [{**variant, **_capacity(wish)}],
        "Tags": [*tags_of(wish.cloud), {"Key": ENDPOINT_TAG, "Value": wish.endpoint}],
    }
    if wish.mode == ASYNC:
        body["AsyncInferenceConfig"] = _async(wish)
    if wish.deploy.capture_percent:
        body["DataCaptureConfig"] = _capture(wish)
    disk = disk_key(wish.cloud, wish.deploy.instance_type)
    if disk:
        body["KmsKeyId"] = disk
    return {"EndpointConfigName": name_of(wish.endpoint, body), **body}


def endpoint_body(wish: Wish, config: str) -> dict[str, Any]:
    """CreateEndpoint."""
    return {
        "EndpointName": wish.endpoint,
        "EndpointConfigName": config,
        "Tags": [*tags_of(wish.cloud), *expiry_tags(wish)],
    }


def update_body(wish: Wish, config: str) -> dict[str, Any]:
    """UpdateEndpoint: the old machines answer until the new ones do."""
    body: dict[str, Any] = {"EndpointName": wish.endpoint, "EndpointConfigName": config}
    if wish.mode != SERVERLESS:
        body["DeploymentConfig"] = _deployment(wish)
    if wish.scales:
        # What autoscaling has made of the number of machines is kept; what is captured follows the new wish.
        body["RetainAllVariantProperties"] = True
        body["ExcludeRetainedVariantProperties"] = [
            {"VariantPropertyType": kind} for kind in ("DesiredWeight", "DataCaptureConfig")
        ]
    return body


def expiry_tags(wish: Wish) -> list[dict[str, str]]:
    """The tag that says when the endpoint is to go."""
    if wish.expires is None:
        return []
    return [{"Key": EXPIRES_TAG, "Value": wish.expires.strftime(TIME)}]


def schedule_name(endpoint: str) -> str:
    """The name of the schedule that deletes an endpoint."""
    name = SCHEDULES + endpoint
    if len(name) <= _SCHEDULE_LENGTH:
        return name
    digest = hashlib.sha256(endpoint.encode()).hexdigest()[:10]
    return f"{name[: _SCHEDULE_LENGTH - 11]}-{digest}"


def schedule_body(wish: Wish) -> dict[str, Any]:
    """CreateSchedule: once, at the end of the time to live, EventBridge Scheduler calls DeleteEndpoint."""
    assert wish.expires is not None
    assert wish.scheduler_role is not None
    partition = wish.scheduler_role.split(":")[1] if ":" in wish.scheduler_role else "aws"
    return {
        "Name": schedule_name(wish.endpoint),
        "ScheduleExpression": f"at({wish.expires:%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Description": f"End of the time to live of the SageMaker endpoint {wish.endpoint}",
        "Target": {
            "Arn": f"arn:{partition}:scheduler:::aws-sdk:sagemaker:deleteEndpoint",
            "RoleArn": wish.scheduler_role,
            "Input": json.dumps({"EndpointName": wish.endpoint}),
            # A call that is throttled or fails is repeated for up to a day.
            "RetryPolicy": {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185},
        },
    }


def target_body(wish: Wish) -> dict[str, Any]:
    """RegisterScalableTarget."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": wish.resource,
        "ScalableDimension": SCALED,
        "MinCapacity": wish.deploy.min_instances,
        "MaxCapacity": wish.machines,
        "Tags": {OURS: "true"},
    }


def policy_body(wish: Wish) -> dict[str, Any]:
    """PutScalingPolicy: machines follow the load."""
    tracking: dict[str, Any] = {"TargetValue": wish.deploy.target_per_instance}
    if wish.mode == REALTIME:
        kind = "SageMakerVariantInvocationsPerInstance"
        tracking["PredefinedMetricSpecification"] = {"PredefinedMetricType": kind}
    else:
        tracking["CustomizedMetricSpecification"] = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": wish.endpoint}],
            "Statistic": "Average",
        }
    return {
        "PolicyName": POLICY,
        "ServiceNamespace": "sagemaker",
        "ResourceId": wish.resource,
        "ScalableDimension": SCALED,
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            **tracking,
            "ScaleOutCooldown": wish.deploy.scale_out_seconds,
            "ScaleInCooldown": wish.deploy.scale_in_seconds,
        },
    }


def async_output(wish: Wish) -> str:
    """S3 folder of an asynchronous endpoint's answers, without a slash at its end."""
    if wish.deploy.async_output != AUTO:
        return wish.deploy.async_output.rstrip("/")
    return f"s3://{wish.place.bucket}/{wish.cloud.prefix}/async/{wish.endpoint}"


def _capacity(wish: Wish) -> dict[str, Any]:
    deploy = wish.deploy
    if wish.mode == SERVERLESS:
        serverless = {
            "MemorySizeInMB": deploy.memory_mb,
            "MaxConcurrency": deploy.max_concurrency,
        }
        if deploy.provisioned_concurrency:
            serverless["ProvisionedConcurrency"] = deploy.provisioned_concurrency
        return {"ServerlessConfig": serverless}
    capacity: dict[str, Any] = {
        "InstanceType": deploy.instance_type,
        "InitialInstanceCount": deploy.instance_count,
        "ContainerStartupHealthCheckTimeoutInSeconds": deploy.startup_seconds,
        "ModelDataDownloadTimeoutInSeconds": deploy.download_seconds,
    }
    if deploy.volume_gb is not None:
        capacity["VolumeSizeInGB"] = deploy.volume_gb
    return capacity


def _async(wish: Wish) -> dict[str, Any]:
    deploy, output = wish.deploy, async_output(wish)
    failures = deploy.async_failures if deploy.async_failures != AUTO else f"{output}/failures"
    config: dict[str, Any] = {
        "OutputConfig": {"S3OutputPath": output, "S3FailurePath": failures.rstrip("/")}
    }
    topics = {"SuccessTopic": deploy.success_topic, "ErrorTopic": deploy.error_topic}
    asked = {name: topic for name, topic in topics.items() if topic}
    if asked:
        config["OutputConfig"]["NotificationConfig"] = asked
    if wish.cloud.kms_key:
        config["OutputConfig"]["KmsKeyId"] = wish.cloud.kms_key
    if deploy.concurrent_per_instance:
        config["ClientConfig"] = {
            "MaxConcurrentInvocationsPerInstance": deploy.concurrent_per_instance
        }
    return config


def _capture(wish: Wish) -> dict[str, Any]:
    output = wish.deploy.capture_output
    if output == AUTO:
        output = f"s3://{wish.place.bucket}/{wish.cloud.prefix}/captured"
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": wish.deploy.capture_percent,
        "DestinationS3Uri": output,
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {
            "JsonContentTypes": ["application/json"],
            "CsvContentTypes": ["text/csv"],
        },
    }
    return capture | ({"KmsKeyId": wish.cloud.kms_key} if wish.cloud.kms_key else {})


def _deployment(wish: Wish) -> dict[str, Any]:
    alarms = [{"AlarmName": name} for name in wish.deploy.rollback_alarms]
    if wish.deploy.rollout == "rolling":
        policy: dict[str, Any] = {
            "RollingUpdatePolicy": {
                "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
                "WaitIntervalInSeconds": _WATCHED_SECONDS if alarms else 60,
                "MaximumExecutionTimeoutInSeconds": _UPDATE_SECONDS,
            }
        }
    else:
        policy = {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {
                    "Type": "ALL_AT_ONCE",
                    "WaitIntervalInSeconds": _WATCHED_SECONDS if alarms else 0,
                },
                "TerminationWaitInSeconds": 0,
                "MaximumExecutionTimeoutInSeconds": _UPDATE_SECONDS,
            }
        }
    if alarms:
        policy["AutoRollbackConfiguration"] = {"Alarms": alarms}
    return policy

"""What this project has made in a region, found by its tags, and what it costs until it is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.endpoint_request import EXPIRES_TAG, SCALED, SCHEDULES, TIME, schedule_name
from sagelight.cloud.models import is_absent
from sagelight.cloud.request import OURS

THREADS = 8
# Those whose names AWS lists by a status leave the ended ones out.
_JOBS = {
    "training job": ("list_training_jobs", "TrainingJobSummaries", "TrainingJob"),
    "tuning job": (
        "list_hyper_parameter_tuning_jobs",
        "HyperParameterTuningJobSummaries",
        "HyperParameterTuningJob",
    ),
    "transform job": ("list_transform_jobs", "TransformJobSummaries", "TransformJob"),
}
_ABSENT = ("ObjectNotFoundException", "ResourceNotFoundException")


@dataclass(frozen=True)
class Thing:
    """Something of ours.

    Attributes:
        detail: of an endpoint, its status and configuration; of a configuration, its models.
    """

    kind: str
    name: str
    arn: str
    tags: dict[str, str]
    detail: dict[str, Any]

    @property
    def expires(self) -> datetime | None:
        """When it is to be deleted; None where nobody has said so."""
        text = self.tags.get(EXPIRES_TAG)
        if text is None:
            return None
        return datetime.strptime(text, TIME).replace(tzinfo=UTC)


def endpoints(aws: Aws) -> list[Thing]:
    """Our endpoints, each with its DescribeEndpoint in `detail` and its configuration's under `config`."""
    with explained("listing endpoints"):
        found = _ours(aws, _listed(aws, "list_endpoints", "Endpoints", "Endpoint"), "endpoint")
        return [_endpoint(aws, thing) for thing in found]


def configs(aws: Aws) -> list[Thing]:
    """Our endpoint configurations; `detail` is DescribeEndpointConfig."""
    with explained("listing endpoint configurations"):
        rows = _listed(aws, "list_endpoint_configs", "EndpointConfigs", "EndpointConfig")
        found = _ours(aws, rows, "configuration")
        return [Thing(t.kind, t.name, t.arn, t.tags, _config(aws, t.name)) for t in found]


def models(aws: Aws) -> list[Thing]:
    """Our models."""
    with explained("listing models"):
        return _ours(aws, _listed(aws, "list_models", "Models", "Model"), "model")


def running_jobs(aws: Aws) -> list[Thing]:
    """Our jobs that have not ended."""
    found = []
    for kind, (operation, key, stem) in _JOBS.items():
        with explained(f"listing {kind}s"):
            rows = _listed(aws, operation, key, stem, StatusEquals="InProgress")
            alive = [row for row in rows if row[2].get(f"{stem}Status") == "InProgress"]
            found += _ours(aws, alive, kind)
    return found


def schedules(aws: Aws) -> list[str]:
    """The names of the schedules that end our endpoints."""
    with explained("listing schedules"):
        pages = aws.scheduler.get_paginator("list_schedules").paginate(NamePrefix=SCHEDULES)
        return [schedule["Name"] for page in pages for schedule in page["Schedules"]]


def tags_of_arn(aws: Aws, arn: str) -> dict[str, str]:
    """The tags of a SageMaker resource.

    Raises:
        CloudError: AWS refuses the question.
    """
    with explained(f"reading the tags of {arn.rpartition('/')[2]}"):
        return _tags(aws, arn)


def config_is_there(aws: Aws, name: str) -> bool:
    """Whether there is an endpoint configuration of that name."""
    from botocore.exceptions import ClientError

    with explained(f"looking up the configuration {name}"):
        try:
            aws.sagemaker.describe_endpoint_config(EndpointConfigName=name)
        except ClientError as error:
            if is_absent(error):
                return False
            raise
    return True


def drop_config(aws: Aws, name: str) -> bool:
    """Delete an endpoint configuration of ours; False where there is none, or it is somebody else's."""
    with explained(f"removing the configuration {name}"):
        found = _config(aws, name)
        if not found or _tags(aws, found["EndpointConfigArn"]).get(OURS) != "true":
            return False
        aws.sagemaker.delete_endpoint_config(EndpointConfigName=name)
    return True


def unscale(aws: Aws, resource: str) -> bool:
    """Take autoscaling from a variant, `endpoint/NAME/variant/NAME`; False where it had none."""
    return _gone(
        "removing autoscaling",
        lambda: aws.scaling.deregister_scalable_target(
            ServiceNamespace="sagemaker", ResourceId=resource, ScalableDimension=SCALED
        ),
    )


def unschedule(aws: Aws, endpoint: str) -> bool:
    """Delete the schedule that would delete an endpoint; False where there is none."""
    return unschedule_named(aws, schedule_name(endpoint))


def unschedule_named(aws: Aws, name: str) -> bool:
    """Delete a schedule; False where there is none."""
    return _gone(f"deleting the schedule {name}", lambda: aws.scheduler.delete_schedule(Name=name))


def is_scaled(aws: Aws, resource: str) -> bool:
    """Whether a variant has autoscaling."""
    with explained("looking up autoscaling"):
        found = aws.scaling.describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[resource]
        )
    return bool(found["ScalableTargets"])


def hourly_cost(endpoint: Thing) -> str:
    """What an endpoint costs an hour until it is deleted, in the units of the bill."""
    if endpoint.detail["EndpointStatus"] == "Failed":
        return "nothing: it failed"
    running = {row["VariantName"]: row for row in endpoint.detail.get("ProductionVariants") or ()}
    config = endpoint.detail.get("config") or {}
    costs = [
        _variant_cost(variant, running.get(variant["VariantName"], {}))
        for variant in config.get("ProductionVariants") or ()
    ]
    return ", ".join(costs) or "not known: its configuration is gone"


def _variant_cost(variant: dict[str, Any], running: dict[str, Any]) -> str:
    serverless = variant.get("ServerlessConfig")
    if serverless:
        warm = serverless.get("ProvisionedConcurrency", 0) * serverless["MemorySizeInMB"] / 1024
        return f"{warm:g} GB-hours an hour kept warm" if warm else "nothing while nobody asks"
    count = running.get("CurrentInstanceCount", variant.get("InitialInstanceCount", 0))
    return f"{count} x {variant['InstanceType']}: {count} instance-hour{'s' * (count != 1)} an hour"


def _gone(doing: str, delete: Callable[[], object]) -> bool:
    from botocore.exceptions import ClientError

    with explained(doing):
        try:
            delete()
        except ClientError as error:
            missing = "no scalable target" in str(error).lower()
            if error_code(error) not in _ABSENT and not missing:
                raise
            return False
    return True


def _listed(
    aws: Aws, operation: str, key: str, stem: str, **filters: str
) -> list[tuple[str, str, dict[str, Any]]]:
    pages = aws.sagemaker.get_paginator(operation).paginate(**filters)
    return [(row[f"{stem}Name"], row[f"{stem}Arn"], row) for page in pages for row in page[key]]


def _ours(aws: Aws, rows: list[tuple[str, str, dict[str, Any]]], kind: str) -> list[Thing]:
    """Those of the rows that carry our tag."""
    if not rows:
        return []
    with ThreadPoolExecutor(THREADS) as pool:
        tags = list(pool.map(lambda row: _tags(aws, row[1]), rows))
    return [
        Thing(kind, name, arn, found, row)
        for (name, arn, row), found in zip(rows, tags, strict=True)
        if found.get(OURS) == "true"
    ]


def _tags(aws: Aws, arn: str) -> dict[str, str]:
    from botocore.exceptions import ClientError

    try:
        pages = aws.sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
        return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    except ClientError as error:
        # Listed, and deleted since.
        if is_absent(error) or error_code(error) == "ResourceNotFound":
            return {}
        raise


def _endpoint(aws: Aws, thing: Thing) -> Thing:
    described = aws.sagemaker.describe_endpoint(EndpointName=thing.name)
    config = _config(aws, described["EndpointConfigName"])
    return Thing(thing.kind, thing.name, thing.arn, thing.tags, {**described, "config": config})


def _config(aws: Aws, name: str) -> dict[str, Any]:
    from botocore.exceptions import ClientError

    try:
        found: dict[str, Any] = aws.sagemaker.describe_endpoint_config(EndpointConfigName=name)
        return found
    except ClientError as error:
        if is_absent(error):
            return {}
        raise


def models_of(config: Thing) -> Iterator[str]:
    """The names of the models of a configuration."""
    for variant in config.detail.get("ProductionVariants") or ():
        if "ModelName" in variant:
            yield variant["ModelName"]

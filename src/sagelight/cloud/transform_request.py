"""Pure functions from settings and photos to CreateTransformJob; what AWS documents in prose is checked here too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sagelight.cloud.models import name_of
from sagelight.cloud.request import disk_key, pairs_of, tags_of
from sagelight.cloud.rules import cloud_problems
from sagelight.cloud.transform_inputs import MOST_PAYLOAD_MB, Inputs
from sagelight.cloud.transform_settings import TransformSettings
from sagelight.config.setting import AUTO

TRANSFORM_JOB = "CreateTransformJob"
# One for the whole job; what the photos really are is read from their bytes.
CONTENT_TYPE = "application/x-image"
ACCEPT = "application/json"
LEAST_PAYLOAD_MB = 6
_CORES = {"medium": 1, "large": 2, "xlarge": 4}


def transform_body(
    settings: TransformSettings, inputs: Inputs, source: dict[str, str], model: str, output: str
) -> dict[str, Any]:
    """CreateTransformJob's arguments; equal photos, models and settings have an equal name.

    Args:
        source: S3DataType and S3Uri.
        output: S3 URI below which the answers will lie; `{}` in it is the job's name.
    """
    cloud = settings.cloud
    body: dict[str, Any] = {
        "ModelName": model,
        "MaxConcurrentTransforms": concurrency(settings, inputs),
        "ModelClientConfig": {
            "InvocationsTimeoutInSeconds": settings.timeout_seconds,
            "InvocationsMaxRetries": settings.retries,
        },
        "MaxPayloadInMB": payload_mb(settings, inputs),
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": source},
            "ContentType": CONTENT_TYPE,
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": {"S3OutputPath": output, "Accept": ACCEPT, "AssembleWith": "None"},
        "TransformResources": {
            "InstanceType": settings.instance_type,
            "InstanceCount": settings.instance_count,
        },
        "Tags": tags_of(cloud),
    }
    if settings.environment:
        body["Environment"] = pairs_of(settings.environment)
    if cloud.kms_key:
        body["TransformOutput"]["KmsKeyId"] = cloud.kms_key
    disk = disk_key(cloud, settings.instance_type)
    if disk:
        body["TransformResources"]["VolumeKmsKeyId"] = disk
    name = name_of(model.rpartition("-")[0] or model, [body, inputs.fingerprint, settings.attempt])
    body["TransformOutput"]["S3OutputPath"] = output.replace("{}", name)
    return {"TransformJobName": name, **body}


def payload_mb(settings: TransformSettings, inputs: Inputs) -> int:
    """`max_payload_mb`, resolved."""
    if settings.max_payload_mb != AUTO:
        return int(settings.max_payload_mb)
    return max(LEAST_PAYLOAD_MB, inputs.largest_mb)


def concurrency(settings: TransformSettings, inputs: Inputs) -> int:
    """`max_concurrent`, resolved: twice the cores, so that one photo is decoded while another is labelled."""
    if settings.max_concurrent != AUTO:
        return int(settings.max_concurrent)
    allowed = MOST_PAYLOAD_MB // payload_mb(settings, inputs)
    return max(1, min(2 * cores(settings.instance_type), allowed))


def cores(instance_type: str) -> int:
    """Virtual cores of an instance type by its size's name, as AWS names almost all of them."""
    size = instance_type.rpartition(".")[2]
    number = re.fullmatch(r"(\d+)xlarge", size)
    return 4 * int(number.group(1)) if number else _CORES.get(size, 4)


def ceiling_hours(body: dict[str, Any], photos: int) -> float:
    """Instance-hours if every photo took as long as it may, as often as it may: the API has no longest runtime."""
    client = body["ModelClientConfig"]
    seconds: int = client["InvocationsTimeoutInSeconds"] * (1 + client["InvocationsMaxRetries"])
    # Each machine has its share, and each of its places a share of that.
    places: int = body["MaxConcurrentTransforms"]
    return photos * seconds / places / 3600


def broken_rules(
    settings: TransformSettings, inputs: Inputs | None, output: str, manifest: bool
) -> Iterator[str]:
    """Every documented rule that a transform breaks, each with what to type."""
    yield from _payload(settings, inputs)
    for text in settings.environment:
        if "=" not in text:
            yield f"environment: {text} is no KEY=VALUE"
    if inputs is not None and inputs.prefix and not manifest:
        yield from _nested(inputs.prefix, output)
    yield from cloud_problems(settings.cloud)


def _payload(settings: TransformSettings, inputs: Inputs | None) -> Iterator[str]:
    found = inputs or Inputs("")
    payload, places = payload_mb(settings, found), concurrency(settings, found)
    if payload * places > MOST_PAYLOAD_MB:
        most = MOST_PAYLOAD_MB // payload
        yield (
            f"max_concurrent={places} x max_payload_mb={payload} is {payload * places} MB, and a machine takes "
            f"{MOST_PAYLOAD_MB} at a time. Type max_concurrent={most} or max_concurrent=auto"
        )
    if payload < found.largest_mb:
        yield (
            f"max_payload_mb={payload}: the largest photo has {found.largest_mb} MB. "
            f"Type max_payload_mb={found.largest_mb} or max_payload_mb=auto"
        )


def _nested(prefix: str, output: str) -> Iterator[str]:
    if output.startswith(prefix):
        yield (
            f"output={output} lies below input={prefix}, so answers would be read as photos. "
            "Type another output"
        )

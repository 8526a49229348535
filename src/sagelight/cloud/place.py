"""Region, role, bucket and image: from the settings, the environment and the SDK's table, without a network."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sagelight.cloud.extra import require_aws
from sagelight.cloud.request import Place
from sagelight.cloud.settings import CloudSettings
from sagelight.config.groups import requirements_dir
from sagelight.config.setting import AUTO
from sagelight.errors import CloudError, suggestion

FRAMEWORK = "pytorch-amzn2023"
DEBUGGER = "debugger"
CLARIFY = "clarify"
SERVING = "pytorch"
NO_ACCOUNT = "000000000000"
ASSUMED_REGION = "us-east-1"
ROLE_VARIABLE = "SAGEMAKER_ROLE"


@dataclass(frozen=True)
class Found:
    """A place; what was assumed for want of an answer, on which no job is started; and what is wrong with it."""

    place: Place
    assumed: tuple[str, ...]
    problems: tuple[str, ...]


def find_place(cloud: CloudSettings) -> Found:
    """Fill every `auto` of the place.

    Raises:
        CloudError: the packages of the AWS side are not installed.
    """
    require_aws()
    assumed, problems = [], []
    region = _region(cloud)
    if region is None:
        region = ASSUMED_REGION
        assumed.append(
            f"no region is set, so {region} is shown. Type cloud.region={region} or set AWS_REGION."
        )
    role = cloud.role if cloud.role != AUTO else os.environ.get(ROLE_VARIABLE)
    if not role:
        role = f"arn:aws:iam::{NO_ACCOUNT}:role/YOUR_ROLE"
        assumed.append(
            "no execution role is set, so a stand-in is shown. "
            f"Type cloud.role=arn:aws:iam::ACCOUNT:role/NAME or set {ROLE_VARIABLE}."
        )
    image = cloud.image
    if image == AUTO:
        try:
            image = image_uri(region, cloud.instance_type)
        except CloudError as error:
            image = "unknown"
            problems.append(str(error))
    bucket = cloud.bucket if cloud.bucket != AUTO else f"sagemaker-{region}-{account_of(role)}"
    return Found(Place(region, role, bucket, image), tuple(assumed), tuple(problems))


def region_of(cloud: CloudSettings) -> str:
    """The region that the settings or the environment name.

    Raises:
        CloudError: neither does, or the packages of the AWS side are not installed.
    """
    require_aws()
    region = _region(cloud)
    if region is None:
        raise CloudError("no region is set. Type cloud.region=REGION or set AWS_REGION.")
    return region


def account_of(role: str) -> str:
    """The account in a role's ARN; twelve zeros where there is none."""
    match = re.match(r"arn:aws[a-z-]*:iam::(\d{12}):", role)
    return match.group(1) if match else NO_ACCOUNT


def image_uri(region: str, instance_type: str) -> str:
    """AWS's training image for the PyTorch version pinned here, from the table that the SageMaker SDK ships.

    Raises:
        CloudError: the table knows no such version or region.
    """
    versions = _sdk_table(FRAMEWORK)["training"]["versions"]
    wanted = ".".join(_pinned_torch().split(".")[:2])
    if wanted not in versions:
        raise CloudError(
            f"the SageMaker SDK {metadata.version('sagemaker-core')} lists no image for PyTorch {wanted} "
            f"(it has {', '.join(versions)}). Type cloud.image=URI."
        )
    version = versions[wanted]
    account = version["registries"].get(region)
    if account is None:
        raise CloudError(
            f"cloud.region={region}: AWS has no PyTorch {wanted} image there."
            f"{suggestion(region, version['registries'])} Type another region, or cloud.image=URI."
        )
    kind = "gpu" if gpus(instance_type, region) else "cpu"
    tag = f"{version['tag_prefix']}-{version['container_version'][kind]}"
    return f"{_registry(account, region)}/{version['repository']}:{tag}"


def serving_image_uri(region: str, setting: str) -> tuple[str, str]:
    """The newest version of AWS's PyTorch inference image in the same table, and its URI for CPUs.

    Args:
        setting: what a person types to choose another image, for messages.

    Raises:
        CloudError: the table knows no such region.
    """
    versions = _sdk_table(SERVING)["inference"]["versions"]
    newest = max(versions, key=lambda text: [int(part) for part in text.split(".")])
    version = versions[newest]
    account = version["registries"].get(region)
    if account is None:
        raise CloudError(
            f"cloud.region={region}: AWS has no PyTorch inference image there."
            f"{suggestion(region, version['registries'])} Type another region, or {setting}=URI."
        )
    tag = f"{newest}-cpu-{version['py_versions'][-1]}"
    return newest, f"{_registry(account, region)}/{version['repository']}:{tag}"


def rules_image_uri(region: str) -> str:
    """AWS's image that evaluates Debugger's rules, from the same table.

    Raises:
        CloudError: the table knows no such region.
    """
    ((tag, version),) = _sdk_table(DEBUGGER)["versions"].items()
    account = version["registries"].get(region)
    if account is None:
        raise CloudError(
            f"debugger.cloud=true: AWS has no Debugger rules in {region}."
            f"{suggestion(region, version['registries'])} Type debugger.cloud=false, or another cloud.region."
        )
    return f"{_registry(account, region)}/{version['repository']}:{tag}"


def clarify_image_uri(region: str) -> str:
    """Clarify's image, from the same table.

    Raises:
        CloudError: the table knows no such region.
    """
    ((tag, version),) = _sdk_table(CLARIFY)["processing"]["versions"].items()
    account = version["registries"].get(region)
    if account is None:
        raise CloudError(
            f"cloud.region={region}: AWS has no Clarify there.{suggestion(region, version['registries'])} "
            "Type another cloud.region, or explain the photos on this machine: python launch/local.py explain"
        )
    return f"{_registry(account, region)}/{version['repository']}:{tag}"


def gpus(instance_type: str, region: str = ASSUMED_REGION) -> int:
    """GPUs of an instance type by the SDK's table; 1 for a GPU family that it does not list, 0 for others."""
    table = _sdk_table("instance_gpu_info")
    known: dict[str, Any] = table.get(region) or table.get(ASSUMED_REGION) or {}
    if instance_type in known:
        return int(known[instance_type]["Count"])
    return 1 if re.match(r"ml\.(p|g)\d", instance_type) else 0


def _registry(account: str, region: str) -> str:
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{account}.dkr.ecr.{region}.{domain}"


@cache
def _sdk_table(name: str) -> dict[str, Any]:
    """One of the SDK's JSON files, read without importing the SDK, which takes seconds."""
    files: Iterable[Any] = metadata.files("sagemaker-core") or ()
    found = next(
        (
            file
            for file in files
            if file.name == f"{name}.json" and "image_uri_config" in file.parts
        ),
        None,
    )
    if found is None:
        raise CloudError(
            f"sagemaker-core {metadata.version('sagemaker-core')} ships no {name}.json. Type cloud.image=URI."
        )
    loaded: dict[str, Any] = json.loads(Path(str(found.locate())).read_text(encoding="utf-8"))
    return loaded


def _pinned_torch() -> str:
    lines = (requirements_dir() / "train.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith("torch=="))


def _region(cloud: CloudSettings) -> str | None:
    if cloud.region != AUTO:
        return cloud.region
    from botocore.session import Session

    found: str | None = Session().get_config_variable("region")
    return found or os.environ.get("AWS_REGION")

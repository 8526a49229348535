"""A SageMaker model, for endpoints and batch transform alike: a bundle in S3, an image, and the walls around it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagelight.cloud.answers import error_code
from sagelight.cloud.bucket import ensure_bucket
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.contract import violations
from sagelight.cloud.extra import require_aws
from sagelight.cloud.packing import PackedBundle, pack_bundle
from sagelight.cloud.place import Found, find_place, serving_image_uri
from sagelight.cloud.request import Place, tags_of, vpc_of
from sagelight.cloud.results import state_of
from sagelight.cloud.rules import cloud_problems
from sagelight.cloud.settings import CloudSettings
from sagelight.cloud.upload import upload_once
from sagelight.config.setting import AUTO, lookup, walk
from sagelight.errors import CloudError, SagelightError

MODEL = "CreateModel"
S3 = "s3://"
ARCHIVE = "model.tar.gz"
# Below this, an archive holds no network: a study without hpo.retrain=true leaves an empty one.
LEAST_BYTES = 1_000
# What AWS's image needs to find the bundle's own handlers.
TOOLKIT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
OLD_IMAGE = (
    "AWS's newest PyTorch inference image in the SDK's table is {version}; it gets no patches since 2026-06-30, "
    "and installs the bundle's requirements from the network each time that it starts. Type {setting}=URI of an "
    "image of your own, built from this project's Dockerfile, for one that has them"
)
_NAME_LENGTH = 63
_DIGEST_LENGTH = 10
# What hosting asks of the cloud group; the rest is of trainings.
_SHARED = [
    "name",
    "region",
    "role",
    "bucket",
    "prefix",
    "subnets",
    "security_groups",
    "kms_key",
    "isolated",
    "network_isolation",
    "tags",
    "follow",
    "endpoint_url",
]


@dataclass(frozen=True)
class Origin:
    """Where a model comes from: exactly one of the two.

    Attributes:
        job: name of a training job, or of a study, whose best trial is meant.
        bundle: a bundle's folder, or the S3 URI of a model.tar.gz.
    """

    job: str | None
    bundle: str | None


@dataclass(frozen=True)
class ModelPlan:
    """A model, ready to be sent or with the reasons why not.

    Attributes:
        body: CreateModel's arguments; its name is made of everything else in it.
        packed: what must lie in the bucket first; None where it lies there already.
        problems: what would be refused or would fail, each saying what to type.
        assumed: what AWS must be asked before the model is sent.
    """

    body: dict[str, Any]
    origin: Origin
    place: Place
    packed: PackedBundle | None
    problems: tuple[str, ...]
    assumed: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.body["ModelName"])

    @property
    def uri(self) -> str:
        """S3 URI of the model.tar.gz."""
        return str(self.body["PrimaryContainer"]["ModelDataUrl"])


def find_hosting_place(cloud: CloudSettings) -> Found:
    """As `find_place`, without the image of trainings."""
    return find_place(replace(cloud, image="none"))


def plan_model(
    origin: Origin,
    cloud: CloudSettings,
    found: Found,
    image: str,
    environment: Mapping[str, str],
    setting: str,
) -> ModelPlan:
    """Plan a model. Nothing is sent and no network is used; what is wrong is collected, not raised.

    Args:
        found: as `find_hosting_place` gives it.
        image: URI of the image that serves, or `auto`, AWS's own.
        environment: more variables for the container.
        setting: what a person types to choose the image, for messages.

    Raises:
        CloudError: the packages of the AWS side are not installed.
    """
    require_aws()
    place = found.place
    problems, notices = [*_foreign(cloud), *cloud_problems(cloud)], []
    if image == AUTO:
        try:
            version, image = serving_image_uri(place.region, setting)
            notices.append(OLD_IMAGE.format(version=version, setting=setting))
        except CloudError as error:
            problems.append(str(error))
        if cloud.subnets:
            notices.append(
                "your VPC needs a way to the Python package index, or the container of AWS's image never answers"
            )
        environment = {**TOOLKIT, "SAGEMAKER_REGION": place.region, **environment}
        if cloud.has_no_network:
            problems.append(
                f"{cloud.isolation}: AWS's image installs the bundle's requirements from the network when "
                f"it starts. Type {setting}=URI of an image that has them"
            )
    packed, uri, stem = _archive(origin, cloud, place, problems)
    body = model_body(stem, uri, image, environment, cloud, place)
    problems += violations(MODEL, body)
    assumed = (
        (f"where job={origin.job} left its bundle is assumed; AWS is asked before anything starts",)
        if origin.job
        else ()
    )
    return ModelPlan(
        body, origin, replace(place, image=image), packed, tuple(problems), assumed, tuple(notices)
    )


def model_body(
    stem: str,
    uri: str,
    image: str,
    environment: Mapping[str, str],
    cloud: CloudSettings,
    place: Place,
) -> dict[str, Any]:
    """CreateModel's arguments, pure; equal contents have an equal name."""
    container: dict[str, Any] = {"Image": image, "ModelDataUrl": uri}
    if environment:
        container["Environment"] = dict(environment)
    body: dict[str, Any] = {
        "PrimaryContainer": container,
        "ExecutionRoleArn": place.role,
        "Tags": tags_of(cloud),
    }
    walls = vpc_of(cloud)
    if walls:
        body["VpcConfig"] = walls
    if cloud.has_no_network:
        body["EnableNetworkIsolation"] = True
    return {"ModelName": name_of(stem, body), **body}


def name_of(stem: str, content: Any, length: int = _NAME_LENGTH) -> str:
    """`stem`, cut to fit, and a digest of `content`."""
    text = json.dumps(content, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]
    clean = re.sub(r"[^a-zA-Z0-9]+", "-", stem).strip("-") or "model"
    return f"{clean[: length - _DIGEST_LENGTH - 1].rstrip('-')}-{digest}"


def settled(aws: Aws, plan: ModelPlan, cloud: CloudSettings) -> ModelPlan:
    """The plan with what AWS knows of its archive: where a job has left it, and that there is one.

    Raises:
        CloudError: no such job, it has left no bundle, or nothing lies under the URI.
    """
    if plan.origin.job:
        plan = _of_job(aws, plan, cloud)
    if plan.packed is None:
        _refuse_absent(aws, plan)
    return plan


def send_model(aws: Aws, plan: ModelPlan, cloud: CloudSettings) -> bool:
    """Upload what is missing, and create the model unless it is there.

    Returns:
        Whether it was created now.

    Raises:
        CloudError: AWS refuses.
    """
    if plan.packed is not None:
        place = plan.place
        ensure_bucket(aws, place.bucket, cloud.prefix, place.region, ours=cloud.bucket == AUTO)
        key = plan.uri.removeprefix(f"{S3}{place.bucket}/")
        upload_once(aws, place.bucket, key, plan.packed.archive)
    if _model_is_there(aws, plan.name):
        return False
    with explained(f"creating the model {plan.name}"), unless_made():
        aws.sagemaker.create_model(**plan.body)
    return True


@contextmanager
def unless_made() -> Iterator[None]:
    """Create what has its name from its content: that it is there already is as good, and so is a lost answer."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if "already exist" not in str(error):
            raise


@contextmanager
def unless_gone() -> Iterator[None]:
    """Delete what somebody else may have deleted meanwhile, or an earlier request whose answer was lost."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if not is_absent(error):
            raise


def is_absent(error: Exception) -> bool:
    """Whether AWS says of a model, an endpoint or its configuration that there is none."""
    return error_code(error) in ("ValidationException", "ResourceNotFound") and (
        "could not find" in str(error).lower()
    )


def _model_is_there(aws: Aws, name: str) -> bool:
    from botocore.exceptions import ClientError

    with explained(f"looking up the model {name}"):
        try:
            aws.sagemaker.describe_model(ModelName=name)
        except ClientError as error:
            if is_absent(error):
                return False
            raise
    return True


def _archive(
    origin: Origin, cloud: CloudSettings, place: Place, problems: list[str]
) -> tuple[PackedBundle | None, str, str]:
    """What goes up, where the archive lies then, and the stem of the model's name."""
    below = f"{S3}{place.bucket}/{cloud.prefix}"
    if bool(origin.job) == bool(origin.bundle):
        problems.append(
            "which model? Type job=NAME of a training, or bundle=DIR, or bundle=s3://.../model.tar.gz"
        )
        return None, f"{below}/models/unknown/{ARCHIVE}", "model"
    if origin.job:
        return None, f"{below}/jobs/{origin.job}/output/{ARCHIVE}", origin.job
    bundle = str(origin.bundle)
    if bundle.startswith(S3):
        if not bundle.endswith(".tar.gz"):
            problems.append(
                f"bundle={bundle}: SageMaker reads one archive. Type bundle=s3://.../model.tar.gz, or bundle=DIR"
            )
        return None, bundle, "model"
    try:
        packed = pack_bundle(Path(bundle))
    except SagelightError as error:
        problems.append(str(error))
        return None, f"{below}/models/unknown/{ARCHIVE}", "model"
    return packed, f"{below}/models/{packed.digest[:16]}/{ARCHIVE}", packed.backbone


def _foreign(cloud: CloudSettings) -> list[str]:
    """What was typed for trainings, and would silently do nothing here."""
    usual = CloudSettings()
    return [
        f"cloud.{name} is of trainings, and does nothing here. Leave it out"
        for name, _ in walk(CloudSettings)
        if name not in _SHARED and lookup(cloud, name) != lookup(usual, name)
    ]


def _of_job(aws: Aws, plan: ModelPlan, cloud: CloudSettings) -> ModelPlan:
    state = state_of(aws, str(plan.origin.job))
    uri = state.described.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    if not uri:
        raise CloudError(
            f"{state.name} has left no bundle: it is {state.doing}. Type status job={state.name}."
        )
    container = plan.body["PrimaryContainer"]
    body = model_body(
        state.name, uri, container["Image"], container.get("Environment", {}), cloud, plan.place
    )
    return replace(plan, body=body, assumed=())


def _refuse_absent(aws: Aws, plan: ModelPlan) -> None:
    from botocore.exceptions import ClientError

    bucket, _, key = plan.uri.removeprefix(S3).partition("/")
    with explained(f"looking at {plan.uri}"):
        try:
            size = aws.s3.head_object(Bucket=bucket, Key=key)["ContentLength"]
        except ClientError as error:
            if error_code(error) not in ("404", "NoSuchKey", "403"):
                raise
            hidden = ", or you may not read it" if error_code(error) == "403" else ""
            raise CloudError(
                f"{plan.uri}: nothing lies there{hidden}. Type bundle=DIR, or the URI of a model.tar.gz."
            ) from error
    if plan.origin.job and size < LEAST_BYTES:
        raise CloudError(
            f"job={plan.origin.job} has left no bundle: {plan.uri} has {size} bytes. A study leaves one with "
            "hpo.retrain=true; train its best.yaml, or type bundle=DIR."
        )

"""The verb `policies`: the least that the person, the job and the scheduler must be allowed, as IAM documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagelight.cloud.bucket import bucket_policy
from sagelight.cloud.endpoint_plan import scheduler_role
from sagelight.cloud.endpoint_settings import EndpointSettings
from sagelight.cloud.place import (
    clarify_image_uri,
    find_place,
    rules_image_uri,
    serving_image_uri,
)
from sagelight.cloud.policies_ground import S3, Ground, Permission
from sagelight.cloud.policies_job import job, scheduler, trust
from sagelight.cloud.policies_person import serving, training
from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import AUTO, group, setting
from sagelight.errors import CloudError, ConfigError
from sagelight.files import write_text

VERSION = "2012-10-17"
# Of a managed policy, without white space.
MOST_CHARACTERS = 6144


@dataclass
class PolicySettings:
    output: str | None = setting(None, "Folder for the documents; null prints them.")
    reads: list[str] = setting(
        [], "What lies in S3 outside of cloud.prefix and is read, such as [s3://BUCKET/PHOTOS]."
    )
    writes: list[str] = setting(
        [], "What goes to S3 outside of cloud.prefix, such as shards of `prepare`."
    )
    clarify: bool = setting(False, "Also what `explain` needs.")
    debugger: bool = setting(False, "Also the image that debugger.cloud=true needs.")
    deploy: EndpointSettings = group(EndpointSettings)
    cloud: CloudSettings = group(CloudSettings)


def run_policies(settings: PolicySettings) -> None:
    """Print the documents for these settings, or write them into a folder, with what to type then.

    Raises:
        ConfigError: an address that is none of S3's.
        CloudError: no account or region to write for, or a document that IAM would find too long.
    """
    ground = ground_of(settings)
    permissions, documents = tables(ground), all_documents(ground)
    for name, document in documents.items():
        _refuse_long(name, document)
    if settings.output is None:
        for name, document in documents.items():
            print("\n".join([f"# {name}", *_comments(permissions.get(name, ())), _text(document)]))
        return
    folder = Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        write_text(folder / name, _text(document))
        for line in (name, *_comments(permissions.get(name, ()))):
            print(line)
    print("\n".join(["", "Type, with rights that this does not give:", *_commands(ground, folder)]))


def ground_of(settings: PolicySettings) -> Ground:
    """Where everything lies.

    Raises:
        ConfigError, CloudError: as `run_policies`.
    """
    cloud, deploy = settings.cloud, settings.deploy
    found = find_place(cloud)
    if found.assumed:
        raise CloudError(f"policies are for a real region and role; {found.assumed[-1]}")
    for uri in (*settings.reads, *settings.writes):
        if not uri.startswith(S3) or not uri.removeprefix(S3).strip("/"):
            raise ConfigError(f"{uri} is no address in S3. Type s3://BUCKET/PREFIX.")
    outputs = (deploy.async_output, deploy.async_failures, deploy.capture_output)
    topics = (deploy.success_topic, deploy.error_topic)
    ground = Ground(
        cloud,
        found.place,
        tuple(settings.reads),
        (*settings.writes, *(uri for uri in outputs if uri != AUTO)),
        topics=tuple(topic for topic in topics if topic),
        scheduler_role=scheduler_role(deploy, cloud, found.place.role),
        clarify=settings.clarify,
    )
    return replace(ground, images=tuple(_images(settings, ground)))


def tables(ground: Ground) -> dict[str, tuple[Permission, ...]]:
    """The permissions of every document that gives some, by its file's name."""
    found = {
        "person-train.json": training(ground),
        "person-serve.json": serving(ground),
        "job.json": job(ground),
    }
    if ground.scheduler_role:
        found["scheduler.json"] = scheduler(ground)
    return {name: tuple(permissions) for name, permissions in found.items()}


def all_documents(ground: Ground) -> dict[str, dict[str, Any]]:
    """Every document, by its file's name: permissions, who may take the roles, and the bucket's own policy."""
    found = {name: document(permissions) for name, permissions in tables(ground).items()}
    [source] = ground.arn("sagemaker", "*")
    found["job-trust.json"] = trust("sagemaker", ground, source)
    if ground.scheduler_role:
        [source] = ground.arn("scheduler", "schedule-group/default")
        found["scheduler-trust.json"] = trust("scheduler", ground, source)
    found["bucket.json"] = bucket_policy(ground.place.bucket, ground.partition)
    return found


def document(permissions: Iterable[Permission]) -> dict[str, Any]:
    """A policy as IAM takes it."""
    return {"Version": VERSION, "Statement": [each.statement() for each in permissions]}


def characters(policy: Mapping[str, Any]) -> int:
    """The length of a policy as IAM counts it: without white space."""
    return len("".join(json.dumps(policy).split()))


def _images(settings: PolicySettings, ground: Ground) -> Iterator[str]:
    region = ground.place.region
    yield ground.place.image
    if settings.deploy.image != AUTO:
        yield settings.deploy.image
    else:
        yield serving_image_uri(region, "deploy.image")[1]
    if settings.debugger:
        yield rules_image_uri(region)
    if settings.clarify:
        yield clarify_image_uri(region)


def _refuse_long(name: str, policy: Mapping[str, Any]) -> None:
    count = characters(policy)
    if count > MOST_CHARACTERS:
        raise CloudError(
            f"{name} has {count:,} characters, and IAM takes {MOST_CHARACTERS:,}. "
            "Type fewer reads=[...], writes=[...] or cloud.subnets=[...], or a shorter cloud.prefix."
        )


def _comments(permissions: Iterable[Permission]) -> Iterator[str]:
    """Why each statement is there; JSON has no place for it."""
    for each in permissions:
        reason = f" ({each.unseen})" if each.unseen else ""
        yield f"#   {each.sid}: {each.why}{reason}"


def _text(policy: Mapping[str, Any]) -> str:
    return json.dumps(policy, indent=2) + "\n"


def _commands(ground: Ground, folder: Path) -> Iterator[str]:
    for part in ("train", "serve"):
        yield (
            f"aws iam create-policy --policy-name sagelight-{part} "
            f"--policy-document file://{folder / f'person-{part}.json'}"
        )
    roles = {"job": ground.place.role, "scheduler": ground.scheduler_role}
    for part, role in roles.items():
        if role:
            name = role.rpartition("/")[2]
            yield (
                f"aws iam create-role --role-name {name} "
                f"--assume-role-policy-document file://{folder / f'{part}-trust.json'}"
            )
            yield (
                f"aws iam put-role-policy --role-name {name} --policy-name sagelight "
                f"--policy-document file://{folder / f'{part}.json'}"
            )
    yield (
        f"aws s3api put-bucket-policy --bucket {ground.place.bucket} --policy file://{folder / 'bucket.json'}"
        "    (in place of the one that is there)"
    )

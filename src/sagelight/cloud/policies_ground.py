"""What a policy is made of: where things lie, and the permissions to do something there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sagelight.cloud.bucket import partition_of
from sagelight.cloud.place import account_of
from sagelight.cloud.request import OURS, Place
from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import AUTO

S3 = "s3://"
Condition = Mapping[str, Mapping[str, Any]]
_REPOSITORY = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)")
_KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:[^:]+:\d{12}:key/.+")


@dataclass(frozen=True)
class Permission:
    """One statement of a policy.

    Attributes:
        sid: its name, letters and digits.
        why: what needs it, in a sentence.
        unseen: why no rehearsal can see these calls; empty for those that our own code makes there.
    """

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    why: str
    condition: Condition = field(default_factory=dict)
    unseen: str = ""

    def statement(self) -> dict[str, Any]:
        """As IAM writes it."""
        found: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": list(self.actions),
            "Resource": list(self.resources),
        }
        return found | ({"Condition": self.condition} if self.condition else {})


@dataclass(frozen=True)
class Ground:
    """Where everything lies that a policy lets somebody touch.

    Attributes:
        reads, writes: S3 URIs outside of `cloud.prefix` that are read, or read and written.
        images: URIs of the images that containers are made of.
        topics: ARNs of the SNS topics that hear of asynchronous answers.
        scheduler_role: ARN of the role that ends endpoints; None where there is none.
        clarify: whether Clarify explains photos.
    """

    cloud: CloudSettings
    place: Place
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    scheduler_role: str | None = None
    clarify: bool = False

    @property
    def partition(self) -> str:
        return partition_of(self.place.region)

    @property
    def account(self) -> str:
        return account_of(self.place.role)

    @property
    def makes_bucket(self) -> bool:
        return self.cloud.bucket == AUTO

    @property
    def bucket(self) -> str:
        """ARN of the bucket."""
        return f"arn:{self.partition}:s3:::{self.place.bucket}"

    def arn(self, service: str, *resources: str) -> tuple[str, ...]:
        """ARNs in this region and account."""
        start = f"arn:{self.partition}:{service}:{self.place.region}:{self.account}:"
        return tuple(start + resource for resource in resources)

    def sagemaker(self, *kinds: str) -> tuple[str, ...]:
        """ARNs of everything of these kinds; names follow experiments, and tags say what is ours."""
        return self.arn("sagemaker", *(f"{kind}/*" for kind in kinds))

    def repositories(self) -> tuple[str, ...]:
        """ARNs of the images' repositories; an image elsewhere than in ECR has none."""
        found = filter(None, map(_REPOSITORY.match, self.images))
        return tuple(
            dict.fromkeys(
                f"arn:{self.partition}:ecr:{m[2]}:{m[1]}:repository/{m[3]}" for m in found
            )
        )

    def keys(self) -> tuple[tuple[str, ...], Condition]:
        """ARNs of the KMS key, and the condition that narrows them where it is known by an alias alone."""
        key = str(self.cloud.kms_key)
        alias = key.partition("alias/")[2]
        if alias:
            named = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{alias}"}}
            return self.arn("kms", "key/*"), named
        return ((key,) if _KEY_ARN.match(key) else self.arn("kms", f"key/{key}")), {}

    def listings(self) -> dict[str, list[str]]:
        """Prefixes of keys that may be listed, by the ARN of their bucket."""
        found = {self.bucket: [f"{self.cloud.prefix}/*"]}
        for uri in (*self.reads, *self.writes):
            bucket, key = _parts(uri)
            arn = f"arn:{self.partition}:s3:::{bucket}"
            found.setdefault(arn, []).extend([key, f"{key}/*"] if key else ["", "*"])
        return {arn: list(dict.fromkeys(prefixes)) for arn, prefixes in found.items()}

    def objects(self, uris: Iterable[str]) -> tuple[str, ...]:
        """ARNs of the objects that lie under S3 URIs; a URI may be that of an object, too."""
        found = []
        for bucket, key in map(_parts, uris):
            arn = f"arn:{self.partition}:s3:::{bucket}/"
            found += [f"{arn}{key}", f"{arn}{key}/*"] if key else [f"{arn}*"]
        return tuple(dict.fromkeys(found))

    def home(self) -> tuple[str, ...]:
        """ARNs of the objects below the prefix."""
        return (f"{self.bucket}/{self.cloud.prefix}/*",)

    def owned(self) -> Condition:
        """That a bucket is this account's; somebody may have taken the name that an account's own would have."""
        if not self.makes_bucket:
            return {}
        return {"StringEquals": {"aws:ResourceAccount": self.account}}


def tagged_now() -> Condition:
    """The condition that what is made gets our tag."""
    return {"StringEquals": {f"aws:RequestTag/{OURS}": "true"}}


def tagged() -> Condition:
    """The condition that something has our tag."""
    return {"StringEquals": {f"aws:ResourceTag/{OURS}": "true"}}


def tagging(*operations: str) -> Condition:
    """The condition that tags come with something new: what exists cannot be made ours by a tag."""
    return {"StringEquals": {"sagemaker:TaggingAction": list(operations)}}


def passed_to(service: str) -> Condition:
    """The condition that a role goes to one service alone."""
    return {"StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}}


def walls(cloud: CloudSettings, training: bool) -> Condition:
    """The conditions under which AWS itself refuses what lies outside of the walls that the settings ask for.

    Args:
        training: of jobs that train; of models otherwise, which have no traffic of their own and no output.
    """
    found: dict[str, dict[str, Any]] = {}
    truths = {
        "sagemaker:NetworkIsolation": cloud.has_no_network,
        "sagemaker:InterContainerTrafficEncryption": training and cloud.encrypts_traffic,
    }
    asked = {key: "true" for key, wanted in truths.items() if wanted}
    places = {
        "sagemaker:VpcSubnets": cloud.subnets,
        "sagemaker:VpcSecurityGroupIds": cloud.security_groups,
    }
    named = [key for key, values in places.items() if values]
    named += ["sagemaker:OutputKmsKey"] if training and cloud.kms_key else []
    if asked:
        found["Bool"] = asked
    if cloud.subnets:
        found["ForAllValues:StringEquals"] = {k: list(v) for k, v in places.items()}
    if named:
        found["Null"] = dict.fromkeys(named, "false")
    return found


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(S3).partition("/")
    return bucket, key.strip("/")

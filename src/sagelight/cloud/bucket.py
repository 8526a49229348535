"""The bucket that everything lies in: found, or made so that only its account reads it; others are looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.errors import CloudError

US_EAST_1 = "us-east-1"
_ABSENT = ("404", "NoSuchBucket")
_UNSET = (
    "NoSuchPublicAccessBlockConfiguration",
    "OwnershipControlsNotFoundError",
    "NoSuchBucketPolicy",
)
_BLOCKED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_OWNER = "BucketOwnerEnforced"


def ensure_bucket(aws: Aws, bucket: str, prefix: str, region: str, ours: bool) -> None:
    """Find the bucket, and say where it is open; create it, private, when it is the account's default one.

    Args:
        prefix: folder below which everything is kept; nobody needs to list more.

    Raises:
        CloudError: it belongs to somebody else, lies in another region, or does not exist.
    """
    from botocore.exceptions import ClientError

    with explained(f"looking at s3://{bucket}"):
        try:
            # Not HeadBucket: that needs the right to list every name in the bucket.
            found = aws.s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/", MaxKeys=1)
        except ClientError as error:
            if error_code(error) not in _ABSENT or not ours:
                _refuse_elsewhere(error, bucket)
                raise
            _create(aws, bucket, region)
            return
        where = _region(found)
        if where and where != region:
            raise CloudError(_elsewhere(bucket, where))
        for opening in openings(aws, bucket):
            print(f"  notice    {opening}")


def openings(aws: Aws, bucket: str) -> Iterator[str]:
    """What a bucket lets in that one of ours would not, each with what to type."""
    checks: list[tuple[Callable[..., Any], Callable[[Any], bool], str, str]] = [
        (
            aws.s3.get_public_access_block,
            lambda found: all(found["PublicAccessBlockConfiguration"][name] for name in _BLOCKED),
            "does not block public access",
            f"aws s3api put-public-access-block --bucket {bucket} --public-access-block-configuration "
            f"{','.join(f'{name}=true' for name in _BLOCKED)}",
        ),
        (
            aws.s3.get_bucket_ownership_controls,
            lambda found: found["OwnershipControls"]["Rules"][0]["ObjectOwnership"] == _OWNER,
            "lets objects have ACLs and owners of their own",
            f"aws s3api put-bucket-ownership-controls --bucket {bucket} "
            f"--ownership-controls 'Rules=[{{ObjectOwnership={_OWNER}}}]'",
        ),
    ]
    if _speaks_tls(aws):
        checks.append(
            (
                aws.s3.get_bucket_policy,
                lambda found: _refuses_plain(json.loads(found["Policy"])),
                "takes requests without TLS",
                "python launch/sagemaker.py policies output=DIR for a policy that refuses them, bucket.json",
            )
        )
    for ask, is_closed, opening, remedy in checks:
        closed = _answer(ask, is_closed, bucket)
        if closed is not True:
            said = (
                f"{closed} was refused, so it may be that s3://{bucket}"
                if closed
                else f"s3://{bucket}"
            )
            yield f"{said} {opening}. Type {remedy}"


def bucket_policy(bucket: str, partition: str = "aws") -> dict[str, Any]:
    """The policy of a bucket that refuses requests without TLS."""
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "OnlyTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }


def partition_of(region: str) -> str:
    """The part of ARNs that says which AWS: `aws`, `aws-cn` or `aws-us-gov`."""
    return next((f"aws-{k}" for k in ("cn", "us-gov") if region.startswith(f"{k}-")), "aws")


def _create(aws: Aws, bucket: str, region: str) -> None:
    place = {} if region == US_EAST_1 else {"LocationConstraint": region}
    more = {"CreateBucketConfiguration": place} if place else {}
    aws.s3.create_bucket(Bucket=bucket, ObjectOwnership=_OWNER, **more)
    aws.s3.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(_BLOCKED, True)
    )
    key = {"KMSMasterKeyID": aws.kms_key} if aws.kms_key else {}
    rule: dict[str, Any] = {
        "ApplyServerSideEncryptionByDefault": {
            "SSEAlgorithm": "aws:kms" if key else "AES256",
            **key,
        },
        # One call of KMS for many objects.
        "BucketKeyEnabled": bool(key),
    }
    aws.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    if _speaks_tls(aws):
        policy = bucket_policy(bucket, partition_of(region))
        aws.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def _speaks_tls(aws: Aws) -> bool:
    """False of a rehearsal, which that policy would shut out."""
    return str(aws.s3.meta.endpoint_url).startswith("https:")


def _answer(ask: Callable[..., Any], is_closed: Callable[[Any], bool], bucket: str) -> bool | str:
    """Whether a bucket is closed in one respect; the name of the question where it was refused."""
    from botocore.exceptions import ClientError

    try:
        return is_closed(ask(Bucket=bucket))
    except ClientError as error:
        return False if error_code(error) in _UNSET else str(error.operation_name)
    except (KeyError, ValueError, IndexError):
        return False


def _refuses_plain(policy: dict[str, Any]) -> bool:
    return any(
        statement.get("Effect") == "Deny"
        and str(statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport"))
        == "false"
        for statement in policy["Statement"]
    )


def _refuse_elsewhere(error: Any, bucket: str) -> None:
    where = _region(error.response)
    if error_code(error) in ("301", "PermanentRedirect") and where:
        raise CloudError(_elsewhere(bucket, where)) from error


def _region(answer: dict[str, Any]) -> str | None:
    """Where a bucket lies, by the headers of any answer about it."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    found: str | None = headers.get("x-amz-bucket-region")
    return found


def _elsewhere(bucket: str, where: str) -> str:
    return (
        f"s3://{bucket} lies in {where}, and a job reads only from its own region. "
        f"Type cloud.region={where} or another cloud.bucket."
    )

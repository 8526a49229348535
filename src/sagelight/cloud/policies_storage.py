"""Permissions on buckets and keys, which person and job have in common."""

from __future__ import annotations

from collections.abc import Iterator

from sagelight.cloud.policies_ground import Ground, Permission

RETRIED = "sent when an upload in parts is given up"
BY_SERVICE = "AWS's services ask KMS on behalf of whoever asked them"


def storage(ground: Ground) -> Iterator[Permission]:
    """What lies in S3: listed by prefix, read, written."""
    for number, (bucket, prefixes) in enumerate(ground.listings().items()):
        owned = ground.owned() if bucket == ground.bucket else {}
        yield Permission(
            f"List{number or ''}",
            ("s3:ListBucket",),
            (bucket,),
            "what is there is not sent again; names elsewhere in the bucket stay unseen",
            {**owned, "StringLike": {"s3:prefix": prefixes}},
        )
    yield Permission(
        "Objects",
        ("s3:GetObject", "s3:PutObject"),
        ground.home(),
        "photos, code, weights, checkpoints and results",
        ground.owned(),
    )
    yield Permission(
        "GiveUp",
        ("s3:AbortMultipartUpload",),
        ground.home(),
        "uploads in parts",
        ground.owned(),
        RETRIED,
    )
    if ground.reads:
        yield Permission(
            "Read", ("s3:GetObject",), ground.objects(ground.reads), "photos that lie elsewhere"
        )
    if ground.writes:
        yield Permission(
            "Write",
            ("s3:GetObject", "s3:PutObject"),
            ground.objects(ground.writes),
            "what goes elsewhere",
        )


def encryption(ground: Ground) -> Iterator[Permission]:
    """The KMS key: of objects, and of disks."""
    if not ground.cloud.kms_key:
        return
    keys, named = ground.keys()
    yield Permission(
        "KeyOfObjects",
        ("kms:Decrypt", "kms:GenerateDataKey"),
        keys,
        "objects in S3 that the key encrypts",
        {**named, "StringEquals": {"kms:ViaService": f"s3.{ground.place.region}.amazonaws.com"}},
        BY_SERVICE,
    )
    yield Permission(
        "KeyOfDisks",
        ("kms:CreateGrant",),
        keys,
        "disks of machines that the key encrypts",
        {**named, "Bool": {"kms:GrantIsForAWSResource": "true"}},
        BY_SERVICE,
    )
    yield Permission(
        "LookAtKey", ("kms:DescribeKey",), keys, "whether the key can be used", named, BY_SERVICE
    )

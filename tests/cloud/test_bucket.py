"""Buckets: ours are private, others are looked at, and every call names the owner and the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.stub import Stubber

from sagelight.cloud.bucket import bucket_policy, ensure_bucket, openings
from sagelight.cloud.client import Aws
from sagelight.cloud.settings import CloudSettings
from sagelight.errors import CloudError

BUCKET = "sagemaker-eu-west-1-111122223333"
OWNED = {"Bucket": BUCKET, "ExpectedBucketOwner": "111122223333"}
ALL = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return Aws(CloudSettings(kms_key="alias/photos"), "eu-west-1")


@pytest.fixture
def stub(aws: Aws) -> Iterator[Stubber]:
    with Stubber(aws.s3) as stub:
        yield stub
        stub.assert_no_pending_responses()


def test_the_default_bucket_is_made_private(aws: Aws, stub: Stubber) -> None:
    asked = {**OWNED, "Prefix": "p/", "MaxKeys": 1}
    stub.add_client_error("list_objects_v2", "NoSuchBucket", expected_params=asked)
    stub.add_response(
        "create_bucket",
        {},
        {
            "Bucket": BUCKET,
            "ObjectOwnership": "BucketOwnerEnforced",
            "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"},
        },
    )
    stub.add_response(
        "put_public_access_block", {}, {**OWNED, "PublicAccessBlockConfiguration": ALL}
    )
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/photos"}
    rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}
    stub.add_response(
        "put_bucket_encryption",
        {},
        {**OWNED, "ServerSideEncryptionConfiguration": {"Rules": [rule]}},
    )
    policy = json.dumps(bucket_policy(BUCKET))
    stub.add_response("put_bucket_policy", {}, {**OWNED, "Policy": policy})
    ensure_bucket(aws, BUCKET, "p", "eu-west-1", ours=True)


def look(stub: Stubber, block: Any, ownership: Any, policy: Any) -> None:
    """What the three questions are answered; a text is an error's code."""
    answers = {
        "get_public_access_block": block,
        "get_bucket_ownership_controls": ownership,
        "get_bucket_policy": policy,
    }
    for operation, answer in answers.items():
        if isinstance(answer, str):
            stub.add_client_error(operation, answer)
        else:
            stub.add_response(operation, answer)


def test_a_bucket_like_ours_is_not_spoken_of(aws: Aws, stub: Stubber) -> None:
    look(
        stub,
        {"PublicAccessBlockConfiguration": ALL},
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
        {"Policy": json.dumps(bucket_policy("b"))},
    )
    assert list(openings(aws, "b")) == []


def test_a_bucket_that_is_open_is_told(
    aws: Aws, stub: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.add_response("list_objects_v2", {})
    open_to_all = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*"}]}
    look(
        stub,
        {"PublicAccessBlockConfiguration": ALL | {"BlockPublicPolicy": False}},
        "OwnershipControlsNotFoundError",
        {"Policy": json.dumps(open_to_all)},
    )
    ensure_bucket(aws, "b", "p", "eu-west-1", ours=False)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "  notice    s3://b does not block public access. Type aws s3api put-public-access-block --bucket b "
    )
    assert second.startswith(
        "  notice    s3://b lets objects have ACLs and owners of their own. Type aws s3api"
    )
    assert third.startswith(
        "  notice    s3://b takes requests without TLS. Type python launch/sagemaker.py policies"
    )


def test_what_may_not_be_asked_is_told(aws: Aws, stub: Stubber) -> None:
    look(stub, "AccessDenied", "AccessDenied", "NoSuchBucketPolicy")
    first, _, third = openings(aws, "b")
    assert first.startswith("GetPublicAccessBlock was refused, so it may be that s3://b does not")
    assert third.startswith("s3://b takes requests without TLS.")


def test_a_bucket_of_another_region_is_refused(aws: Aws, stub: Stubber) -> None:
    headers = {"x-amz-bucket-region": "us-west-2"}
    stub.add_response("list_objects_v2", {"ResponseMetadata": {"HTTPHeaders": headers}})
    with pytest.raises(
        CloudError, match=r"s3://b lies in us-west-2, .* Type cloud.region=us-west-2"
    ):
        ensure_bucket(aws, "b", "p", "eu-west-1", ours=False)


@pytest.mark.parametrize(("bucket", "owner"), [(BUCKET, "111122223333"), ("photos", None)])
def test_every_call_names_the_owner_and_every_upload_the_key(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, bucket: str, owner: str | None
) -> None:
    sent = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, SimpleNamespace(stream=lambda: []))

    monkeypatch.setattr(aws.s3._endpoint.http_session, "send", answer)
    aws.s3.put_object(Bucket=bucket, Key="k", Body=b"")
    aws.s3.head_object(Bucket=bucket, Key="k")
    put, head = (
        {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in each.headers.items()
        }
        for each in sent
    )
    assert put["x-amz-server-side-encryption"] == "aws:kms"
    assert put["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/photos"
    for each in (put, head):
        assert each.get("x-amz-expected-bucket-owner") == owner
        assert "sagelight/" in each["user-agent"]

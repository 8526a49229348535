"""The policies: IAM's grammar, nothing that is not asked, nothing asked that is missing, and what they refuse."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from permitted import GOLDEN, PERSON, Asked, allows, asked_of_sagemaker
from sagelight.cloud.door import main
from sagelight.cloud.policies import MOST_CHARACTERS, all_documents, characters, document, tables
from sagelight.cloud.policies_ground import Ground, Permission
from sagelight.cloud.request import Place
from sagelight.cloud.settings import CloudSettings
from stories.commands import ROOT, refused_by

ACCOUNT = "111122223333"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/train"
KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/abc"
IMAGE = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/team/sagelight:1"
BUCKET = f"sagemaker-eu-west-1-{ACCOUNT}"
PLACE = Place("eu-west-1", ROLE, BUCKET, IMAGE)
PLAIN = Ground(CloudSettings(), PLACE)
WALLED = CloudSettings(
    isolated=True, subnets=["subnet-0a1b"], security_groups=["sg-0a1b"], kms_key=KEY
)
WHOLE = Ground(
    WALLED,
    PLACE,
    reads=("s3://elsewhere/photos",),
    writes=("s3://shards",),
    images=(IMAGE, "own:1"),
    topics=(f"arn:aws:sns:eu-west-1:{ACCOUNT}:done",),
    scheduler_role=f"arn:aws:iam::{ACCOUNT}:role/end",
    clarify=True,
)
PERSONS = ("person-train.json", "person-serve.json")
# What the Service Authorization Reference gives no resource.
NO_RESOURCE = {
    "application-autoscaling:DescribeScalableTargets",
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "scheduler:ListSchedules",
    *(f"ec2:Describe{kind}" for kind in ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")),
    *(
        f"sagemaker:List{kind}s"
        for kind in ("Endpoint", "EndpointConfig", "Model", "TrainingJob", "HyperParameterTuningJob", "TransformJob")
    ),
}  # fmt: skip
# IAM's names where they are not those of the calls.
S3_NAMES = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "PutBucketEncryption": "PutEncryptionConfiguration",
}
TRANSFERS = {
    "upload_file": ("s3:PutObject", "s3:AbortMultipartUpload"),
    "download_file": ("s3:GetObject",),
}
# Asked for with another call, or by a service on the person's behalf.
NO_CALL = {
    "iam:PassRole",
    "iam:CreateServiceLinkedRole",
    "application-autoscaling:TagResource",
    "sagemaker:UpdateEndpointWeightsAndCapacities",
    "cloudwatch:PutMetricAlarm",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:DeleteAlarms",
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:GenerateDataKey",
    "s3:PutBucketOwnershipControls",
}
SERVICES = {
    "sagemaker": "sagemaker",
    "sagemaker-runtime": "sagemaker",
    "s3": "s3",
    "logs": "logs",
    "scheduler": "scheduler",
    "application-autoscaling": "application-autoscaling",
}


def actions(permissions: tuple[Permission, ...]) -> set[str]:
    return {action for each in permissions for action in each.actions}


def of_person(ground: Ground) -> tuple[Permission, ...]:
    found = tables(ground)
    return tuple(each for name in PERSONS for each in found[name])


def may(ground: Ground, asked: Asked, who: tuple[str, ...] = PERSONS) -> bool:
    found = tables(ground)
    return allows([document(found[name]) for name in who], asked)


def names_in_code() -> Iterator[str]:
    """Every attribute and every text of the room that talks to AWS: a call stands there as one or the other."""
    for path in sorted((ROOT / "src" / "sagelight" / "cloud").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                yield node.attr
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def calls_of_code() -> set[str]:
    """The actions of IAM's that the calls in the code need."""
    import botocore.session
    from botocore import xform_name

    session, named = botocore.session.get_session(), set(names_in_code())
    found = {action for name in named for action in TRANSFERS.get(name, ())}
    for service, prefix in SERVICES.items():
        for operation in session.get_service_model(service).operation_names:
            # `search` is a word of many libraries.
            if "_" in xform_name(operation) and xform_name(operation) in named:
                name = S3_NAMES.get(operation, operation) if service == "s3" else operation
                found.add(f"{prefix}:{name}")
    return found


def test_the_person_may_make_every_call_of_the_code_and_no_other() -> None:
    allowed = actions(of_person(WHOLE))
    called = calls_of_code()
    assert called - allowed == set()
    assert allowed - called == NO_CALL


@pytest.mark.parametrize(("who", "names"), [(PERSON, PERSONS), ("job", ("job.json",))])
def test_rehearsals_have_asked_for_everything_that_they_can_see(who: str, names: list[str]) -> None:
    found = tables(WHOLE)
    seen = {
        action
        for name in names
        for each in found[name]
        for action in each.actions
        if not each.unseen
    }
    assert set(json.loads(GOLDEN.read_text())[who]) == seen


@pytest.mark.parametrize("ground", [PLAIN, WHOLE], ids=["plain", "whole"])
def test_the_documents_are_what_iam_takes(ground: Ground) -> None:
    from moto.iam.policy_validation import (
        IAMPolicyDocumentValidator,
        IAMTrustPolicyDocumentValidator,
    )

    for name, found in all_documents(ground).items():
        assert characters(found) <= MOST_CHARACTERS, name
        sids = [statement["Sid"] for statement in found["Statement"]]
        assert len(set(sids)) == len(sids)
        assert all(sid.isalnum() for sid in sids)
        if name == "bucket.json":
            continue
        kind = IAMTrustPolicyDocumentValidator if "trust" in name else IAMPolicyDocumentValidator
        kind(json.dumps(found)).validate()


def test_everything_has_a_resource_that_can_have_one() -> None:
    everywhere = {
        action
        for permissions in tables(WHOLE).values()
        for each in permissions
        if "*" in each.resources
        for action in each.actions
    }
    assert everywhere == NO_RESOURCE
    assert not any("*" in action for p in tables(WHOLE).values() for action in actions(p))


def golden(name: str) -> Asked:
    """What the creating call of a golden request asks first."""
    path = GOLDEN.with_name(f"{name}.json")
    [(operation, body)] = json.loads(path.read_text()).items()
    asked = next(asked_of_sagemaker(operation, body, {}))
    [arn] = asked.resources
    return replace(
        asked, resources=(arn.replace("us-east-1:123456789012", f"eu-west-1:{ACCOUNT}"),)
    )


def test_aws_itself_refuses_what_lies_outside_of_the_walls() -> None:
    names = ("train", "train-walled", "train-isolated", "hpo-isolated", "hpo-random")
    assert [may(PLAIN, golden(name)) for name in names] == [True] * 5
    assert [may(WHOLE, golden(name)) for name in names] == [False, False, False, True, False]
    no_key = replace(WHOLE, cloud=replace(WALLED, kms_key=None))
    assert [may(no_key, golden(name)) for name in names] == [False, False, True, True, False]
    other = replace(WHOLE, cloud=replace(WALLED, subnets=["subnet-9"]))
    assert not any(may(other, golden(name)) for name in names)


OURS: dict[str, Any] = {"aws:ResourceTag/sagelight": "true"}
ARN = f"arn:aws:sagemaker:eu-west-1:{ACCOUNT}:"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (Asked("sagemaker:StopTrainingJob", (f"{ARN}training-job/a",), OURS), True),
        (Asked("sagemaker:StopTrainingJob", (f"{ARN}training-job/theirs",)), False),
        (Asked("sagemaker:DeleteEndpoint", (f"{ARN}endpoint/theirs",), {"aws:ResourceTag/sagelight": "no"}), False),
        # What is there does not become ours by a tag.
        (Asked("sagemaker:AddTags", (f"{ARN}endpoint/theirs",)), False),
        (Asked("sagemaker:AddTags", (f"{ARN}endpoint/a",), OURS), True),
        (Asked("sagemaker:CreateModel", (f"{ARN}model/a",)), False),
        (Asked("iam:PassRole", (ROLE,), {"iam:PassedToService": "sagemaker.amazonaws.com"}), True),
        (Asked("iam:PassRole", (ROLE,), {"iam:PassedToService": "lambda.amazonaws.com"}), False),
        (Asked("iam:PassRole", (f"{ROLE}-2",), {"iam:PassedToService": "sagemaker.amazonaws.com"}), False),
        (Asked("s3:ListBucket", (f"arn:aws:s3:::{BUCKET}",), {"aws:ResourceAccount": ACCOUNT, "s3:prefix": "sagelight/data/1"}), True),
        (Asked("s3:ListBucket", (f"arn:aws:s3:::{BUCKET}",), {"aws:ResourceAccount": ACCOUNT, "s3:prefix": ""}), False),
        (Asked("s3:ListBucket", (f"arn:aws:s3:::{BUCKET}",), {"aws:ResourceAccount": ACCOUNT}), False),
        # Somebody else has taken the name of the account's default bucket.
        (Asked("s3:PutObject", (f"arn:aws:s3:::{BUCKET}/sagelight/a",), {"aws:ResourceAccount": "999988887777"}), False),
        (Asked("s3:GetObject", (f"arn:aws:s3:::{BUCKET}/secrets/a",), {"aws:ResourceAccount": ACCOUNT}), False),
        (Asked("logs:GetLogEvents", (f"arn:aws:logs:eu-west-1:{ACCOUNT}:log-group:/aws/lambda/x:log-stream:y",)), False),
    ],
)  # fmt: skip
def test_the_person_touches_only_what_is_ours(asked: Asked, answer: bool) -> None:
    assert may(PLAIN, asked) is answer


def test_the_job_reads_and_writes_only_below_the_prefix_and_where_it_is_told() -> None:
    def job_may(action: str, key: str) -> bool:
        context = {"aws:ResourceAccount": ACCOUNT}
        return may(WHOLE, Asked(action, (f"arn:aws:s3:::{key}",), context), ("job.json",))

    assert job_may("s3:PutObject", f"{BUCKET}/sagelight/jobs/a")
    assert not job_may("s3:PutObject", f"{BUCKET}/other/a")
    assert job_may("s3:GetObject", "elsewhere/photos/train/a.jpg")
    assert not job_may("s3:GetObject", "elsewhere/photos-2/a.jpg")
    assert not job_may("s3:PutObject", "elsewhere/photos/a.jpg")
    assert job_may("s3:PutObject", "shards/a.tar")
    assert not job_may("s3:DeleteObject", f"{BUCKET}/sagelight/jobs/a")


def test_a_key_may_be_an_arn_an_id_or_an_alias() -> None:
    def keys(name: str) -> tuple[Any, Any]:
        return replace(PLAIN, cloud=CloudSettings(kms_key=name)).keys()

    assert keys(KEY) == ((KEY,), {})
    assert keys("abc") == ((KEY,), {})
    arns, condition = keys("alias/photos")
    assert arns == (KEY.replace("abc", "*"),)
    assert condition == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/photos"}}


WORDS = ["policies", "cloud.region=eu-west-1", f"cloud.role={ROLE}"]


def test_the_documents_are_written_with_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = f"arn:aws:iam::{ACCOUNT}:role/end"
    more = [
        f"deploy.scheduler_role={end}",
        "deploy.async_output=s3://answers/here",
        "reads=[s3://p]",
    ]
    assert main([*WORDS, f"output={tmp_path / 'out'}", *more]) == 0
    said = capsys.readouterr().out
    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()}
    assert sorted(written) == [
        "bucket.json", "job-trust.json", "job.json", "person-serve.json", "person-train.json", "scheduler-trust.json",
        "scheduler.json",
    ]  # fmt: skip
    for name in written:
        assert said.count(f"file://{tmp_path / 'out' / name}") == 1
    resources = [r for s in written["job.json"]["Statement"] for r in s["Resource"]]
    assert "arn:aws:s3:::answers/here/*" in resources
    assert "arn:aws:s3:::p/*" in resources
    assert "arn:aws:ecr:eu-west-1:763104351884:repository/pytorch" in resources
    assert "#   GiveRole: the role that jobs and endpoints run as" in said
    [statement] = written["scheduler-trust.json"]["Statement"]
    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}


def test_without_a_folder_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    said = capsys.readouterr().out
    names = [line for line in said.splitlines() if line.startswith("# ") and line.endswith(".json")]
    assert names == [
        "# person-train.json", "# person-serve.json", "# job.json", "# job-trust.json", "# bucket.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["policies", "cloud.region=eu-west-1"], "Type cloud.role=arn:aws:iam::ACCOUNT:role/NAME"),
        ([*WORDS, "reads=[photos]"], "photos is no address in S3. Type s3://BUCKET/PREFIX."),
        (
            [*WORDS, f"reads=[{','.join(f's3://bucket-{n:02d}/photos' for n in range(30))}]"],
            "and IAM takes 6,144. Type fewer reads=[...]",
        ),
    ],
)
def test_what_cannot_be_written_is_told(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused_by(main, capsys, *words)

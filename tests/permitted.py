"""What a rehearsal is asked, judged by the policies that `policies` writes: who asks, for what, and may they?"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from sagelight.cloud.client import AGENT
from sagelight.rehearsal.server import ACCOUNT, JOB, REGION

GOLDEN = Path(__file__).parent / "golden" / "calls.json"
PERSON = "person"
_HOSTS = {"sagemaker": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"}
_KINDS = {
    "TrainingJob": "training-job",
    "HyperParameterTuningJob": "hyper-parameter-tuning-job",
    "TransformJob": "transform-job",
    "ProcessingJob": "processing-job",
    "Model": "model",
    "EndpointConfig": "endpoint-config",
    "Endpoint": "endpoint",
}
_BUCKET_CALLS = {
    ("GET", "publicAccessBlock"): "GetBucketPublicAccessBlock",
    ("GET", "ownershipControls"): "GetBucketOwnershipControls",
    ("GET", "policy"): "GetBucketPolicy",
    ("PUT", "publicAccessBlock"): "PutBucketPublicAccessBlock",
    ("PUT", "ownershipControls"): "PutBucketOwnershipControls",
    ("PUT", "encryption"): "PutEncryptionConfiguration",
    ("PUT", "policy"): "PutBucketPolicy",
    ("GET", ""): "ListBucket",
    ("HEAD", ""): "ListBucket",
    ("PUT", ""): "CreateBucket",
}
_OBJECT_CALLS = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "POST": "PutObject"}


@dataclass(frozen=True)
class Asked:
    """One thing that IAM would be asked: an action, the ARNs that it needs, and the keys of the request."""

    action: str
    resources: tuple[str, ...]
    context: Mapping[str, Any] = field(default_factory=dict)


def allows(documents: Iterable[Mapping[str, Any]], asked: Asked) -> bool:
    """Whether the documents together allow it, as IAM would judge: each resource by some statement."""
    statements = [each for document in documents for each in document["Statement"]]
    return all(
        any(_matches(statement, asked, resource) for statement in statements)
        for resource in asked.resources
    )


def asked_of_sagemaker(
    operation: str, body: Mapping[str, Any], tags: Mapping[str, Mapping[str, str]]
) -> Iterator[Asked]:
    """What an operation of SageMaker's asks of IAM.

    Args:
        tags: of what is there, by ARN.
    """
    resources = _resources(operation, body)
    given = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in body.get("Tags", ())}
    context = {**given, **_walls(body.get("TrainingJobDefinition", body))}
    for resource in resources:
        there = {f"aws:ResourceTag/{k}": v for k, v in tags.get(resource, {}).items()}
        yield Asked(f"sagemaker:{operation}", (resource,), {**context, **there})
    if given and operation.startswith("Create"):
        new = {**given, "sagemaker:TaggingAction": operation}
        yield Asked("sagemaker:AddTags", resources[:1], new)
    role = body.get("RoleArn") or body.get("ExecutionRoleArn")
    role = role or body.get("TrainingJobDefinition", {}).get("RoleArn")
    if role:
        yield Asked("iam:PassRole", (role,), {"iam:PassedToService": "sagemaker.amazonaws.com"})


class Recorder:
    """Judges every request of a person's commands and of jobs; those of the tests' own clients it lets pass."""

    def __init__(self, documents: Mapping[str, list[dict[str, Any]]]) -> None:
        self._documents = documents
        self._known: dict[str, list[str]] = json.loads(GOLDEN.read_text())
        self.complaints: list[str] = []

    def wrap(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """A rehearsal's answering, listened to."""

        def listening(rehearsal: Any, environ: dict[str, Any], start: Any) -> Any:
            who = _who(environ)
            if who:
                for asked in _asked(environ, rehearsal.sagemaker.tags):
                    self._judge(who, asked)
            return answer(rehearsal, environ, start)

        return listening

    def _judge(self, who: str, asked: Asked) -> None:
        if not allows(self._documents[who], asked):
            self.complaints.append(f"{who} may not {asked}")
        if asked.action in self._known[who]:
            return
        if os.environ.get("SAGELIGHT_GOLDEN") == "write":
            self._known[who] = sorted([*self._known[who], asked.action])
            GOLDEN.write_text(json.dumps(self._known, indent=2) + "\n")
        else:
            self.complaints.append(f"{GOLDEN.name} does not know that {who} asks {asked.action}")


def _who(environ: Mapping[str, Any]) -> str | None:
    key = re.search(r"Credential=([^/]+)/", str(environ.get("HTTP_AUTHORIZATION", "")))
    if key and key[1] == JOB:
        return "job"
    return PERSON if AGENT in str(environ.get("HTTP_USER_AGENT", "")) else None


def _asked(environ: dict[str, Any], tags: Mapping[str, Mapping[str, str]]) -> Iterator[Asked]:
    service = str(environ["HTTP_AUTHORIZATION"]).split("Credential=")[1].split("/")[3]
    target = str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]
    method, path = str(environ["REQUEST_METHOD"]), str(environ["PATH_INFO"])
    if service == "s3":
        yield _asked_of_s3(method, path, str(environ.get("QUERY_STRING", "")))
        if "HTTP_X_AMZ_OBJECT_OWNERSHIP" in environ:
            yield Asked("s3:PutBucketOwnershipControls", (f"arn:aws:s3:::{path.strip('/')}",))
    elif path.startswith("/endpoints/"):
        call = "InvokeEndpointAsync" if path.endswith("async-invocations") else "InvokeEndpoint"
        yield Asked(f"sagemaker:{call}", (f"{_HOSTS['sagemaker']}:endpoint/{path.split('/')[2]}",))
    else:
        body = _body(environ)
        if service == "sagemaker":
            yield from asked_of_sagemaker(target, body, tags)
        elif service == "logs":
            group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{body['logGroupName']}"
            yield Asked(f"logs:{target}", (f"{group}:log-stream:{body.get('logStreamName', '')}",))
        elif service == "scheduler":
            yield from _asked_of_scheduler(method, path, body)
        else:
            yield from _asked_of_scaling(target, body)


def _asked_of_s3(method: str, path: str, query: str) -> Asked:
    bucket, _, key = path.lstrip("/").partition("/")
    words = parse_qs(query, keep_blank_values=True)
    context = {"aws:ResourceAccount": ACCOUNT}
    if key:
        given_up = method == "DELETE" and "uploadId" in words
        action = "AbortMultipartUpload" if given_up else _OBJECT_CALLS[method]
        return Asked(f"s3:{action}", (f"arn:aws:s3:::{bucket}/{key}",), context)
    part = next((each for _, each in _BUCKET_CALLS if each and each in words), "")
    prefix = {"s3:prefix": words["prefix"][0]} if "prefix" in words else {}
    action = _BUCKET_CALLS[method, part]
    return Asked(f"s3:{action}", (f"arn:aws:s3:::{bucket}",), {**context, **prefix})


def _asked_of_scheduler(method: str, path: str, body: Mapping[str, Any]) -> Iterator[Asked]:
    name = path.removeprefix("/schedules").lstrip("/")
    if not name:
        yield Asked("scheduler:ListSchedules", ("*",))
        return
    verb = {"POST": "Create", "PUT": "Update", "DELETE": "Delete"}[method]
    arn = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{name}"
    yield Asked(f"scheduler:{verb}Schedule", (arn,))
    if "Target" in body:
        passed = {"iam:PassedToService": "scheduler.amazonaws.com"}
        yield Asked("iam:PassRole", (body["Target"]["RoleArn"],), passed)


def _asked_of_scaling(target: str, body: Mapping[str, Any]) -> Iterator[Asked]:
    if target.startswith("Describe"):
        yield Asked(f"application-autoscaling:{target}", ("*",))
        return
    arn = (f"arn:aws:application-autoscaling:{REGION}:{ACCOUNT}:scalable-target/0ec5",)
    context = {
        "application-autoscaling:service-namespace": body["ServiceNamespace"],
        "application-autoscaling:scalable-dimension": body["ScalableDimension"],
    }
    yield Asked(f"application-autoscaling:{target}", arn, context)
    if "Tags" in body:
        given = {f"aws:RequestTag/{key}": value for key, value in body["Tags"].items()}
        yield Asked("application-autoscaling:TagResource", arn, given)


def _resources(operation: str, body: Mapping[str, Any]) -> tuple[str, ...]:
    if "ResourceArn" in body:
        return (str(body["ResourceArn"]),)
    if operation == "ListTrainingJobsForHyperParameterTuningJob":
        names = ["HyperParameterTuningJob"]
    elif operation.startswith("List"):
        return ("*",)
    else:
        kind = re.sub("^(Create|Describe|Update|Stop|Delete)", "", operation)
        names = [kind] + (
            ["EndpointConfig"] if operation in ("CreateEndpoint", "UpdateEndpoint") else []
        )
    return tuple(f"{_HOSTS['sagemaker']}:{_KINDS[each]}/{body[f'{each}Name']}" for each in names)


def _walls(body: Mapping[str, Any]) -> dict[str, Any]:
    vpc = body.get("VpcConfig", {})
    key = body.get("OutputDataConfig", {}).get("KmsKeyId")
    found = {
        "sagemaker:NetworkIsolation": str(body.get("EnableNetworkIsolation", False)).lower(),
        "sagemaker:InterContainerTrafficEncryption": str(
            body.get("EnableInterContainerTrafficEncryption", False)
        ).lower(),
        "sagemaker:VpcSubnets": vpc.get("Subnets"),
        "sagemaker:VpcSecurityGroupIds": vpc.get("SecurityGroupIds"),
        "sagemaker:OutputKmsKey": key,
    }
    return {name: value for name, value in found.items() if value is not None}


def _body(environ: dict[str, Any]) -> dict[str, Any]:
    content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(content)
    loaded: dict[str, Any] = json.loads(content or b"{}")
    return loaded


def _matches(statement: Mapping[str, Any], asked: Asked, resource: str) -> bool:
    return (
        statement["Effect"] == "Allow"
        and asked.action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        and all(
            _holds(operator, key, wanted, asked.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, key: str, wanted: Any, context: Mapping[str, Any]) -> bool:
    if operator == "Null":
        return (key not in context) == (wanted == "true")
    if key not in context:
        return operator.startswith("ForAllValues")
    values = context[key] if isinstance(context[key], list) else [context[key]]
    patterns = wanted if isinstance(wanted, list) else [wanted]
    like = fnmatchcase if operator.endswith("Like") else str.__eq__
    quantifier = all if operator.startswith("ForAllValues") else any
    assert operator in ("Bool", "StringEquals", "StringLike", "ForAllValues:StringEquals"), operator
    return quantifier(any(like(value, pattern) for pattern in patterns) for value in values)

"""What jobs and endpoints may do, and the role that ends endpoints: permissions, and who may take the roles.

Sources: AWS's guide "How to use SageMaker AI execution roles", by operation; its page on VPCs for the interfaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sagelight.cloud.policies_ground import Ground, Permission, passed_to, tagged
from sagelight.cloud.policies_storage import encryption, storage

ANY = ("*",)
_BY_MACHINE = (
    "SageMaker does it before our code runs, and a rehearsal has no images, interfaces or metrics"
)
_BY_CLARIFY = "Clarify's image runs at AWS only"
# Clarify names what it makes so.
_SHADOWS = ("endpoint/sm-clarify-*", "endpoint-config/sm-clarify-*")


def job(ground: Ground) -> Iterator[Permission]:
    """The execution role: of training jobs, studies, models and transform jobs."""
    yield from storage(ground)
    yield from encryption(ground)
    yield Permission(
        "WriteLogs",
        ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
        ground.arn("logs", "log-group:/aws/sagemaker/*"),
        "what our code prints",
    )
    yield Permission(
        "FindLogs",
        ("logs:DescribeLogStreams",),
        ground.arn("logs", "log-group:/aws/sagemaker/*"),
        "SageMaker's agent looks for its stream",
        unseen=_BY_MACHINE,
    )
    yield Permission(
        "Metrics",
        ("cloudwatch:PutMetricData",),
        ANY,
        "metrics of jobs and endpoints; IAM has no narrower resource, the namespace narrows it",
        {
            "StringLike": {
                "cloudwatch:namespace": ["/aws/sagemaker/*", "aws/sagemaker/*", "AWS/SageMaker*"]
            }
        },
        _BY_MACHINE,
    )
    yield from _images(ground)
    yield from _interfaces(ground)
    if ground.topics:
        yield Permission(
            "Tell",
            ("sns:Publish",),
            ground.topics,
            "asynchronous answers and failures",
            unseen=_BY_MACHINE,
        )
    if ground.clarify:
        yield from _clarify(ground)


def scheduler(ground: Ground) -> Iterator[Permission]:
    """The role with which EventBridge Scheduler ends an endpoint's time to live."""
    yield Permission(
        "DeleteEndpoint",
        ("sagemaker:DeleteEndpoint",),
        ground.sagemaker("endpoint"),
        "the end of an endpoint's time to live; only what has our tag",
        tagged(),
        "EventBridge Scheduler does it; the rehearsal's own clock calls no API",
    )


def trust(service: str, ground: Ground, source: str) -> dict[str, Any]:
    """Who may take a role: one service, for this account's own resources.

    Args:
        source: pattern of the ARNs on whose behalf the service may act.
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "OnlyForThisAccount",
                "Effect": "Allow",
                "Principal": {"Service": f"{service}.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": ground.account},
                    "ArnLike": {"aws:SourceArn": source},
                },
            }
        ],
    }


def _images(ground: Ground) -> Iterator[Permission]:
    repositories = ground.repositories()
    if not repositories:
        return
    yield Permission(
        "LogInToImages",
        ("ecr:GetAuthorizationToken",),
        ANY,
        "IAM has no narrower resource for it",
        unseen=_BY_MACHINE,
    )
    yield Permission(
        "PullImages",
        ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"),
        repositories,
        "the images of containers",
        unseen=_BY_MACHINE,
    )


def _interfaces(ground: Ground) -> Iterator[Permission]:
    cloud = ground.cloud
    if not cloud.subnets:
        return
    interfaces = ground.arn("ec2", "network-interface/*")
    inside = ground.arn(
        "ec2",
        *(f"subnet/{name}" for name in cloud.subnets),
        *(f"security-group/{name}" for name in cloud.security_groups),
    )
    yield Permission(
        "Interfaces",
        ("ec2:CreateNetworkInterface",),
        (*interfaces, *inside),
        "machines in the VPC",
        unseen=_BY_MACHINE,
    )
    yield Permission(
        "OwnInterfaces",
        (
            "ec2:CreateNetworkInterfacePermission",
            "ec2:DeleteNetworkInterface",
            "ec2:DeleteNetworkInterfacePermission",
        ),
        interfaces,
        "machines in the VPC",
        unseen=_BY_MACHINE,
    )
    kinds = ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
    yield Permission(
        "LookAtVpc",
        tuple(f"ec2:Describe{kind}" for kind in kinds),
        ANY,
        "machines in the VPC; IAM has no narrower resource for it",
        unseen=_BY_MACHINE,
    )


def _clarify(ground: Ground) -> Iterator[Permission]:
    yield Permission(
        "ShadowEndpoint",
        tuple(
            f"sagemaker:{verb}{kind}"
            for kind in ("Endpoint", "EndpointConfig")
            for verb in ("Create", "Describe", "Delete")
        ),
        ground.arn("sagemaker", *_SHADOWS),
        "Clarify asks the model through an endpoint of its own",
        unseen=_BY_CLARIFY,
    )
    yield Permission(
        "AskShadow",
        ("sagemaker:InvokeEndpoint", "sagemaker:DescribeModel"),
        ground.sagemaker("endpoint", "model"),
        "Clarify asks the model, or the endpoint that is named",
        unseen=_BY_CLARIFY,
    )
    yield Permission(
        "GiveRole",
        ("iam:PassRole",),
        (ground.place.role,),
        "the endpoint of Clarify's own runs as the same role",
        passed_to("sagemaker"),
        _BY_CLARIFY,
    )

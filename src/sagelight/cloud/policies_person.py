"""What the person who types the commands may do: the calls of this room, as IAM names them.

A test reads the calls from the code and compares; another one lets a rehearsal be asked only what stands here.
Sources: AWS's Service Authorization Reference for resources, conditions and what depends on what; the guide "Define
IAM permissions for Application Auto Scaling" for what that asks on a person's behalf.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sagelight.cloud.endpoint_request import SCALED, SCHEDULES
from sagelight.cloud.policies_ground import (
    Ground,
    Permission,
    passed_to,
    tagged,
    tagged_now,
    tagging,
    walls,
)
from sagelight.cloud.policies_storage import encryption, storage

ANY = ("*",)
JOBS = ("training-job", "hyper-parameter-tuning-job", "transform-job", "processing-job")
HOSTING = ("model", "endpoint-config", "endpoint")
_SCALING = "sagemaker.application-autoscaling.amazonaws.com"
_LINKED_ROLE = (
    f"role/aws-service-role/{_SCALING}/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)
_NO_TLS = "a rehearsal has no TLS to insist on"
_BY_SCALING = "Application Auto Scaling asks for it on the person's behalf"


def training(ground: Ground) -> Iterator[Permission]:
    """train, status, logs, stop, fetch; and what every other verb needs, too."""
    yield from _bucket(ground)
    yield from storage(ground)
    yield from encryption(ground)
    yield Permission(
        "Train",
        ("sagemaker:CreateTrainingJob", "sagemaker:CreateHyperParameterTuningJob"),
        ground.sagemaker(*JOBS[:2]),
        "train; only with our tag, and inside of the walls that the settings ask for",
        {**tagged_now(), **walls(ground.cloud, training=True)},
    )
    yield _tags("TagJobs", ground, JOBS[:2], "CreateTrainingJob", "CreateHyperParameterTuningJob")
    yield Permission(
        "LookAtJobs",
        (
            "sagemaker:DescribeTrainingJob",
            "sagemaker:DescribeHyperParameterTuningJob",
            "sagemaker:DescribeTransformJob",
            "sagemaker:DescribeProcessingJob",
            "sagemaker:ListTrainingJobsForHyperParameterTuningJob",
        ),
        ground.sagemaker(*JOBS),
        "whether a job is there, how it goes, and the trials of a study",
    )
    yield Permission(
        "StopJobs",
        tuple(
            f"sagemaker:Stop{kind}Job"
            for kind in ("Training", "HyperParameterTuning", "Transform", "Processing")
        ),
        ground.sagemaker(*JOBS),
        "stop; only jobs with our tag",
        tagged(),
    )
    yield Permission(
        "GiveRole",
        ("iam:PassRole",),
        (ground.place.role,),
        "the role that jobs and endpoints run as goes to SageMaker and nowhere else",
        passed_to("sagemaker"),
    )
    yield Permission(
        "Logs",
        ("logs:DescribeLogStreams", "logs:GetLogEvents"),
        ground.arn("logs", *(f"log-group:/aws/sagemaker/{kind}Jobs*" for kind in ("Training", "Transform", "Processing"))),
        "logs, and following a job",
    )  # fmt: skip


def serving(ground: Ground) -> Iterator[Permission]:
    """deploy, invoke, transform, explain, cleanup: beside `training`."""
    yield Permission(
        "Model",
        ("sagemaker:CreateModel",),
        ground.sagemaker("model"),
        "deploy and transform; only with our tag, and inside of the walls that the settings ask for",
        {**tagged_now(), **walls(ground.cloud, training=False)},
    )
    made = ["CreateEndpointConfig", "CreateEndpoint", "CreateTransformJob"]
    kinds = ["endpoint-config", "endpoint", "transform-job"]
    if ground.clarify:
        made, kinds = [*made, "CreateProcessingJob"], [*kinds, "processing-job"]
    yield Permission(
        "Serve",
        tuple(f"sagemaker:{operation}" for operation in made),
        ground.sagemaker(*kinds),
        "deploy, transform and explain; only with our tag",
        tagged_now(),
    )
    yield _tags("TagNew", ground, ["model", *kinds], "CreateModel", *made)
    yield Permission(
        "LookAtEndpoints",
        tuple(f"sagemaker:Describe{kind}" for kind in ("Model", "EndpointConfig", "Endpoint")),
        ground.sagemaker(*HOSTING),
        "whether something is there, and how it is",
    )
    yield Permission(
        "ReadTags",
        ("sagemaker:ListTags",),
        ground.sagemaker(*HOSTING, *JOBS[:3]),
        "cleanup touches only what has our tag",
    )
    yield Permission(
        "ListAll",
        tuple(
            f"sagemaker:List{kind}s"
            for kind in ("Endpoint", "EndpointConfig", "Model", "TrainingJob", "HyperParameterTuningJob", "TransformJob")
        ),
        ANY,
        "cleanup finds what is ours; IAM has no narrower resource for lists",
    )  # fmt: skip
    yield Permission(
        "ChangeEndpoints",
        (
            "sagemaker:UpdateEndpoint",
            "sagemaker:DeleteEndpoint",
            "sagemaker:DeleteEndpointConfig",
            "sagemaker:DeleteModel",
            "sagemaker:AddTags",
            "sagemaker:DeleteTags",
        ),
        ground.sagemaker(*HOSTING),
        "updates, the time to live, and cleanup; only what has our tag",
        tagged(),
    )
    yield Permission(
        "Ask",
        ("sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointAsync"),
        ground.sagemaker("endpoint"),
        "invoke",
    )
    yield Permission(
        "EndpointLogs",
        ("logs:DescribeLogStreams", "logs:GetLogEvents"),
        ground.arn("logs", "log-group:/aws/sagemaker/Endpoints/*"),
        "why an endpoint failed",
    )
    yield from _ends(ground)
    yield from _scaling(ground)


def _bucket(ground: Ground) -> Iterator[Permission]:
    yield Permission(
        "LookAtBucket",
        ("s3:GetBucketPublicAccessBlock", "s3:GetBucketOwnershipControls"),
        (ground.bucket,),
        "whether the bucket is private",
        ground.owned(),
    )
    yield Permission(
        "LookAtBucketPolicy",
        ("s3:GetBucketPolicy",),
        (ground.bucket,),
        "whether the bucket refuses requests without TLS",
        ground.owned(),
        _NO_TLS,
    )
    if ground.makes_bucket:
        yield Permission(
            "MakeBucket",
            (
                "s3:CreateBucket",
                "s3:PutBucketPublicAccessBlock",
                "s3:PutBucketOwnershipControls",
                "s3:PutEncryptionConfiguration",
            ),
            (ground.bucket,),
            "the account's default bucket, made private by the first command; leave it out once the bucket is there",
        )
        yield Permission(
            "OnlyTls",
            ("s3:PutBucketPolicy",),
            (ground.bucket,),
            "the new bucket refuses requests without TLS; leave it out once the bucket is there",
            unseen=_NO_TLS,
        )


def _tags(sid: str, ground: Ground, kinds: Sequence[str], *operations: str) -> Permission:
    return Permission(
        sid,
        ("sagemaker:AddTags",),
        ground.sagemaker(*kinds),
        "our tag, on what is being made and on nothing that is there",
        tagging(*operations),
    )


def _ends(ground: Ground) -> Iterator[Permission]:
    schedules = ground.arn("scheduler", f"schedule/default/{SCHEDULES}*")
    yield Permission(
        "EndSchedules", ("scheduler:DeleteSchedule",), schedules, "an end that is no longer due"
    )
    yield Permission(
        "ListSchedules",
        ("scheduler:ListSchedules",),
        ANY,
        "cleanup finds what is ours; IAM has no narrower resource for lists",
    )
    if ground.scheduler_role:
        yield Permission(
            "Schedule",
            ("scheduler:CreateSchedule", "scheduler:UpdateSchedule"),
            schedules,
            "the end of an endpoint's time to live",
        )
        yield Permission(
            "GiveSchedulerRole",
            ("iam:PassRole",),
            (ground.scheduler_role,),
            "the role that deletes the endpoint then",
            passed_to("scheduler"),
        )


def _scaling(ground: Ground) -> Iterator[Permission]:
    yield Permission(
        "Scale",
        (
            "application-autoscaling:RegisterScalableTarget",
            "application-autoscaling:DeregisterScalableTarget",
            "application-autoscaling:PutScalingPolicy",
        ),
        ground.arn("application-autoscaling", "scalable-target/*"),
        "autoscaling of endpoints, and its end before an update",
        {
            "StringEquals": {
                "application-autoscaling:service-namespace": "sagemaker",
                "application-autoscaling:scalable-dimension": SCALED,
            }
        },
    )
    yield Permission(
        "TagScaled",
        ("application-autoscaling:TagResource",),
        ground.arn("application-autoscaling", "scalable-target/*"),
        "our tag on what is scaled",
        tagged_now(),
    )
    yield Permission(
        "LookAtScaling",
        ("application-autoscaling:DescribeScalableTargets",),
        ANY,
        "whether an endpoint is scaled; IAM has no narrower resource for it",
    )
    yield Permission(
        "ScaleEndpoints",
        ("sagemaker:UpdateEndpointWeightsAndCapacities",),
        ground.sagemaker("endpoint"),
        "autoscaling changes the number of machines",
        tagged(),
        _BY_SCALING,
    )
    yield Permission(
        "ScalingAlarms",
        ("cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms"),
        ground.arn("cloudwatch", "alarm:TargetTracking-endpoint/*"),
        "autoscaling looks at the load",
        unseen=_BY_SCALING,
    )
    yield Permission(
        "ScalingRole",
        ("iam:CreateServiceLinkedRole",),
        (f"arn:{ground.partition}:iam::{ground.account}:{_LINKED_ROLE}",),
        "the first autoscaling of an account makes the role that it runs as",
        {"StringEquals": {"iam:AWSServiceName": _SCALING}},
        _BY_SCALING,
    )

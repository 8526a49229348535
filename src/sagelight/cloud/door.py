"""The door to SageMaker: its verbs."""

from __future__ import annotations

from collections.abc import Sequence

from sagelight.cli import Door, Verb

CLOUD = Door(
    "python launch/sagemaker.py",
    "Train, tune and deploy on Amazon SageMaker; with cloud=rehearsal, on a SageMaker on this machine.",
    {
        "train": Verb(
            "Train, or tune with hpo=true, as SageMaker jobs (the verb when none is typed).",
            "train experiment=resnet50 data.root=photos hpo=true dry_run=true",
            "sagelight.config.schema:Config",
            "sagelight.cloud.command:train_in_cloud",
            takes_words=True,
        ),
        "transform": Verb(
            "Label many photos by a batch transform job: one table, and figures where classes are known.",
            "transform job=NAME input=photos/test output=labels dry_run=true",
            "sagelight.cloud.transform_settings:TransformSettings",
            "sagelight.cloud.transform:run_transform",
        ),
        "status": Verb(
            "What a job is doing.",
            "status job=NAME",
            "sagelight.cloud.jobs:JobSettings",
            "sagelight.cloud.jobs:run_status",
        ),
        "logs": Verb(
            "Print the log of a training or transform job, to its end.",
            "logs job=NAME",
            "sagelight.cloud.jobs:JobSettings",
            "sagelight.cloud.jobs:run_logs",
        ),
        "stop": Verb(
            "Stop a job; what a training has learned so far is kept.",
            "stop job=NAME",
            "sagelight.cloud.jobs:JobSettings",
            "sagelight.cloud.jobs:run_stop",
        ),
        "fetch": Verb(
            "Fetch what a job has left: bundle, report, figures; of a study, its best trial.",
            "fetch job=NAME",
            "sagelight.cloud.jobs:FetchSettings",
            "sagelight.cloud.jobs:run_fetch",
        ),
        "deploy": Verb(
            "Let an endpoint answer photos, or update one that does, without a pause.",
            "deploy job=NAME endpoint=flowers mode=serverless",
            "sagelight.cloud.endpoint_settings:DeploySettings",
            "sagelight.cloud.deploy:run_deploy",
        ),
        "invoke": Verb(
            "Ask an endpoint about a photo.",
            "invoke endpoint=flowers input=photo.jpg",
            "sagelight.cloud.endpoint_settings:InvokeSettings",
            "sagelight.cloud.invoke:run_invoke",
        ),
        "explain": Verb(
            "Explain photos with SageMaker Clarify, for accounts that still have it.",
            "explain job=NAME input=photos dry_run=true",
            "sagelight.cloud.clarify_settings:ClarifySettings",
            "sagelight.cloud.clarify:run_clarify",
        ),
        "cleanup": Verb(
            "Delete endpoints and all that belongs to them; says first what they cost.",
            "cleanup all=true dry_run=true",
            "sagelight.cloud.endpoint_settings:CleanupSettings",
            "sagelight.cloud.cleanup:run_cleanup",
        ),
        "policies": Verb(
            "The least that you, your jobs and your endpoints must be allowed, as documents for IAM.",
            "policies output=policies cloud.role=arn:aws:iam::ACCOUNT:role/NAME",
            "sagelight.cloud.policies:PolicySettings",
            "sagelight.cloud.policies:run_policies",
        ),
    },
    (
        "",
        "Add dry_run=true to see the plan, the exact request and the most that it can cost; nothing is sent.",
        "",
        "Try it: python launch/sagemaker.py experiment=digits cloud=rehearsal",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """See `sagelight.cli.Door.main`."""
    return CLOUD.main(argv)

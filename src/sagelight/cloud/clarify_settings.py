"""What a person says about explaining photos with SageMaker Clarify."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import group, setting

CONTENT_TYPES = ("image/jpeg", "image/png")


@dataclass
class ClarifySettings:
    job: str | None = setting(None, "Name of the training job, or study, whose model is explained.")
    bundle: str | None = setting(
        None, "Instead of job: folder of a bundle, or s3://... of a model.tar.gz."
    )
    endpoint: str | None = setting(
        None,
        "Instead of both: an endpoint that answers already; Clarify then makes none of its own.",
    )
    input: str | None = setting(
        None, "Photos, JPEG or PNG: a folder or a file here, or s3://BUCKET/PREFIX/."
    )
    output: str = setting("auto", "Folder for what Clarify leaves; auto is runs/<job>.")
    segments: int = setting(
        20, "Parts that each photo is cut into, about; each gets its share of a label.", least=1
    )
    compactness: int = setting(5, "How square the parts are; less follows colours.", least=1)
    samples: int = setting(
        500, "Answers for each photo, each with some of its parts hidden.", least=1
    )
    seed: int = setting(0, "Which parts are hidden together.", least=0)
    labels: list[str] = setting(
        [], "Names of the classes in the model's order; those of a bundle here are known."
    )
    content_type: str = setting(
        "image/jpeg",
        "How Clarify writes the photos that the model is asked about.",
        choices=CONTENT_TYPES,
    )
    image: str = setting(
        "auto", "URI of the image that answers; auto is AWS's own for PyTorch inference."
    )
    environment: list[str] = setting(
        [],
        "Environment variables of the container that answers, such as ['SAGELIGHT_BATCH_SIZE=8'].",
    )
    instance_type: str = setting("ml.c5.xlarge", "Kind of machine that Clarify runs on.")
    volume_gb: int = setting(30, "Disk of that machine, in GB.", least=1)
    endpoint_instance_type: str = setting("ml.m5.xlarge", "Kind of machine that answers meanwhile.")
    endpoint_instance_count: int = setting(1, "Machines that answer meanwhile.", least=1)
    max_runtime_seconds: int = setting(
        14400, "Longest time; the job is stopped then, and paid until then.", least=1
    )
    attempt: int = setting(
        1, "Another number starts a job anew that failed or was stopped.", least=1
    )
    dry_run: bool = setting(
        False, "Say what would be sent and what it costs, and the exact request; send nothing."
    )
    cloud: CloudSettings = group(CloudSettings)

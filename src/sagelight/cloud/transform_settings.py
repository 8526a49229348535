"""What a person says about labelling many photos with SageMaker Batch Transform."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import group, setting


@dataclass
class TransformSettings:
    job: str | None = setting(
        None, "Name of the training job, or study, whose model labels the photos."
    )
    bundle: str | None = setting(
        None, "Instead of job: folder of a bundle, or s3://... of a model.tar.gz."
    )
    input: str | None = setting(
        None, "Photos: a folder or a file here, s3://BUCKET/PREFIX/, or a manifest here or there."
    )
    output: str = setting(
        "auto",
        "Folder for labels.csv and what belongs to it, or FILE.csv, FILE.jsonl, or s3://...; auto is runs/<job>.",
    )
    top_k: int = setting(5, "Labels listed for each photo, best first.", least=1)
    image: str = setting(
        "auto", "URI of the image that labels; auto is AWS's own for PyTorch inference."
    )
    environment: list[str] = setting(
        [], "Environment variables of the container, such as ['SAGELIGHT_BATCH_SIZE=16']."
    )
    instance_type: str = setting("ml.c6i.xlarge", "Kind of machine that labels.")
    instance_count: int = setting(1, "Machines, which share the photos.", least=1, most=100)
    max_concurrent: int | str = setting(
        "auto",
        "Photos that a machine is sent at a time; auto is twice its cores, as far as 100 MB allow.",
        least=1,
        most=100,
    )
    max_payload_mb: int | str = setting(
        "auto",
        "Largest photo, in MB; auto is that of the input, and at least 6.",
        least=1,
        most=100,
    )
    timeout_seconds: int = setting(60, "Longest time for one photo.", least=1, most=3600)
    retries: int = setting(
        3, "Times that a photo is sent again when the model does not answer.", least=0, most=3
    )
    attempt: int = setting(
        1, "Another number starts a job anew that failed or was stopped.", least=1
    )
    dry_run: bool = setting(
        False, "Say what would be sent and what it costs, and the exact request; send nothing."
    )
    cloud: CloudSettings = group(CloudSettings)

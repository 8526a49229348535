"""Where a SageMaker job runs, on what, for how long, and behind which walls."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.config.setting import setting


@dataclass
class CloudSettings:
    name: str = setting(
        "aws",
        "aws: Amazon SageMaker; rehearsal: the same requests, executed on this machine.",
        choices=("aws", "rehearsal"),
    )
    region: str = setting("auto", "AWS region; auto is that of your AWS profile or environment.")
    role: str = setting(
        "auto",
        "ARN of the execution role that jobs run as; auto is the environment's SAGEMAKER_ROLE.",
    )
    bucket: str = setting(
        "auto", "S3 bucket for photos, code and results; auto is sagemaker-<region>-<account>."
    )
    prefix: str = setting("sagelight", "Folder in the bucket below which everything is kept.")
    image: str = setting(
        "auto", "URI of the training image; auto is AWS's for the PyTorch version pinned here."
    )
    instance_type: str = setting("ml.g5.xlarge", "Kind of machine a job runs on.")
    instance_count: int = setting(1, "Machines of one job.", least=1)
    volume_gb: int = setting(50, "Disk of each machine, in GB.", least=1)
    max_runtime_seconds: int = setting(
        14400,
        "Longest time that one job may train; it is stopped then, and paid until then.",
        least=1,
    )
    spot: bool = setting(
        False,
        "Use spare capacity at a lower price; an interrupted job continues from its checkpoint.",
    )
    max_wait_seconds: int | str = setting(
        "auto",
        "spot: longest time to wait and train together; auto is twice cloud.max_runtime_seconds.",
        least=1,
    )
    keep_alive_seconds: int = setting(
        0,
        "Warm pool: time that the machine is kept, and paid, for the next job; 0 keeps none.",
        least=0,
    )
    retries: int = setting(
        0, "Times that SageMaker repeats a job after an error of its own.", least=0, most=30
    )
    subnets: list[str] = setting([], "VPC subnets that jobs run in, such as [subnet-0a,subnet-0b].")
    security_groups: list[str] = setting([], "VPC security groups of the jobs.")
    kms_key: str | None = setting(None, "KMS key that encrypts disks, uploads and results.")
    isolated: bool = setting(
        False,
        "One switch for every wall: network_isolation, encrypt_traffic, and no job outside of cloud.subnets.",
    )
    network_isolation: bool = setting(False, "Let the job open no connection at all.")
    encrypt_traffic: bool = setting(False, "Encrypt the traffic between the machines of one job.")
    tags: list[str] = setting([], "Tags of the job for your bill, such as ['team=vision'].")
    environment: list[str] = setting([], "Environment variables of the job, such as ['TZ=UTC'].")
    attempt: int = setting(
        1,
        "Another number starts a job anew that failed or was stopped; it continues from its checkpoint.",
        least=1,
    )
    follow: bool = setting(
        True, "Print the job's log until it ends; false returns once it has started."
    )
    endpoint_url: str | None = setting(
        None, "Where the AWS API answers; the rehearsal's address, or null for AWS itself."
    )

    @property
    def has_no_network(self) -> bool:
        """Whether containers open no connection."""
        return self.isolated or self.network_isolation

    @property
    def encrypts_traffic(self) -> bool:
        """Whether the traffic between the machines of a job is encrypted."""
        return self.isolated or self.encrypt_traffic

    @property
    def isolation(self) -> str:
        """The switch that keeps containers from the network, as it was typed."""
        return "cloud.isolated=true" if self.isolated else "cloud.network_isolation=true"

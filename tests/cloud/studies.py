"""Studies, places and payloads for tests of the cloud side."""

from __future__ import annotations

from sagelight.cloud.request import Payload, Place
from sagelight.tuning.study import Study, read_study

PLACE = Place(
    region="eu-west-1",
    role="arn:aws:iam::111122223333:role/train",
    bucket="photos-of-ours",
    image="763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch:2.14-cu133-amzn2023-sagemaker",
)
RULES_IMAGE = "929884845733.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-debugger-rules:latest"
PAYLOAD = Payload(
    source="s3://photos-of-ours/sagelight/source/0123456789abcdef/sourcedir.tar.gz",
    data="s3://photos-of-ours/sagelight/data/fedcba9876543210",
    weights="s3://photos-of-ours/sagelight/weights/torchvision-0.29.1/resnet50",
    overrides=("experiment=resnet50", "data.root=/opt/ml/input/data/training"),
)


def study(*words: str) -> Study:
    return read_study(["experiment=resnet50", "data.root=photos", *words])

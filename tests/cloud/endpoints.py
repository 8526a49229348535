"""Wishes for endpoints, for tests of the cloud side."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cloud.studies import PLACE
from sagelight.cloud.endpoint_request import Wish
from sagelight.cloud.endpoint_settings import DeploySettings
from sagelight.cloud.models import model_body
from sagelight.config.verbs import parse_settings

URI = "s3://photos-of-ours/sagelight/models/0123456789abcdef/model.tar.gz"
IMAGE = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/sagelight:1"
EXPIRES = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
SCHEDULER = "arn:aws:iam::111122223333:role/scheduler"


def wish(*words: str) -> Wish:
    """What `deploy` makes of these words, in a fixed place and time."""
    settings = parse_settings(DeploySettings, words, "deploy")
    role = settings.deploy.scheduler_role
    return Wish(
        "flowers" if settings.endpoint == "auto" else settings.endpoint,
        settings.mode,
        settings.deploy,
        settings.cloud,
        replace(PLACE, image=IMAGE),
        EXPIRES if settings.deploy.hours is not None else None,
        None if role == "auto" else role,
    )


def model(asked: Wish) -> dict[str, Any]:
    """CreateModel's arguments for a wish."""
    return model_body("resnet18", URI, IMAGE, {"TZ": "UTC"}, asked.cloud, asked.place)

"""A Clarify job in words, for a person who is about to pay for it."""

from __future__ import annotations

import json

from sagelight.cloud.clarify_plan import ClarifyPlan
from sagelight.cloud.clarify_request import (
    ANALYSIS,
    PROCESSING_JOB,
    ceiling_hours,
    photos_uri,
    results_uri,
)
from sagelight.cloud.clarify_settings import ClarifySettings
from sagelight.cloud.data import Cargo
from sagelight.cloud.models import MODEL


def described(plan: ClarifyPlan) -> str:
    """Model, photos, machines and the ceiling: a screen of text."""
    settings = plan.settings
    own, answering = ceiling_hours(settings)
    model = plan.model
    who = f"endpoint {settings.endpoint}" if model is None else f"{model.name} from {model.uri}"
    machines = "" if model is None else _machines(settings)
    hours = f"{own:g} instance-hours of {settings.instance_type}"
    if answering:
        hours += f" and {answering:g} of {settings.endpoint_instance_type}"
    lines = [
        f"{PROCESSING_JOB} {plan.name}",
        f"  image     {plan.place.image}",
        f"  role      {plan.place.role}",
        f"  model     {who}{machines}",
        f"  photos    {photos_uri(plan.body)}{_count(plan.photos)}",
        f"  asks      {settings.samples:,} answers a photo, of about {settings.segments} parts",
        f"  at most   {hours} (max_runtime_seconds)",
        f"  results   {results_uri(plan.body)}, then {plan.folder}",
    ]
    return "\n".join([*lines, *(f"  notice    {text}" for text in plan.notices)])


def requests_json(plan: ClarifyPlan) -> str:
    """The exact requests, and the analysis that they name."""
    model = {MODEL: plan.model.body} if plan.model else {}
    content = {**model, ANALYSIS: plan.analysis, PROCESSING_JOB: plan.body}
    return json.dumps(content, indent=2)


def _machines(settings: ClarifySettings) -> str:
    count = settings.endpoint_instance_count
    return f", on {count} x {settings.endpoint_instance_type} while the job runs"


def _count(photos: Cargo | None) -> str:
    return (
        "" if photos is None else f", {len(photos.files)} of them go up, {photos.size / 1e6:.1f} MB"
    )

"""A plan in words, for a person who is about to pay for it."""

from __future__ import annotations

import json

from sagelight.cloud.ledger import sent_on
from sagelight.cloud.plan import Plan
from sagelight.cloud.processes import in_words
from sagelight.cloud.request import objective_type
from sagelight.tuning.space import Categorical, Dimension


def described(plan: Plan) -> str:
    """Essentials of the configuration, what goes up, the ceiling: a screen of text."""
    config, cloud = plan.study.config, plan.study.config.cloud
    lines = [
        f"{plan.request.operation} {plan.request.name}",
        f"  trains    {config.model.backbone}, finetune={config.finetune.name}, "
        f"{config.trainer.max_epochs} epochs, batch {config.data.batch_size}, seed {config.seed}",
        f"  on        {cloud.instance_count} x {cloud.instance_type}"
        f"{' spot' if cloud.spot else ''} in {plan.place.region}",
        f"  image     {plan.place.image}",
        f"  role      {plan.place.role}",
    ]
    shared = in_words(plan.study, plan.processes)
    lines += [f"  as        {shared}"] if shared else []
    if plan.study.tunes:
        lines.append(
            f"  tunes     {objective_type(config.hpo).lower()} {config.hpo.metric}, {config.hpo.strategy}, "
            f"{plan.trials} trials, {min(config.hpo.max_parallel_jobs, plan.trials)} at a time"
        )
        lines += [
            f"            {_dimension(dimension)}" for dimension in plan.study.space.dimensions
        ]
    if plan.study.tunes:
        lines.append(f"  backend   {_backend(plan)}")
    lines += [f"  goes up   {text}" for text in _cargo(plan)]
    lines.append(f"  at most   {_ceiling(plan)}")
    lines += [f"  notice    {text}" for text in plan.notices]
    return "\n".join(lines)


def listed_problems(problems: tuple[str, ...]) -> str:
    """All problems in one message."""
    count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
    return "\n".join([f"this job has {count}:", *(f"  - {problem}" for problem in problems)])


def request_json(plan: Plan) -> str:
    """The exact request."""
    return json.dumps(plan.request.body, indent=2)


def _dimension(dimension: Dimension) -> str:
    if isinstance(dimension, Categorical):
        return f"{dimension.name} in {', '.join(dimension.values)}"
    scale = "" if dimension.scale == "auto" else f", {dimension.scale} scale"
    return f"{dimension.name} from {dimension.low:g} to {dimension.high:g}{scale}"


def _cargo(plan: Plan) -> list[str]:
    source = plan.source
    found = [f"source: {source.files} files, {_bytes(len(source.archive))}, {source.digest[:16]}"]
    if source.left_out:
        names = ", ".join(source.left_out[:5]) + (", ..." if len(source.left_out) > 5 else "")
        found.append(f"not: {names} (only source that git tracks goes up)")
    for cargo in plan.cargo:
        sent = sent_on(plan.uri(cargo.key))
        state = f"there since {sent}" if sent else "not sent from here yet"
        found.append(
            f"{cargo.kind}: {len(cargo.files)} files, {_bytes(cargo.size)}, "
            f"{cargo.fingerprint[:16]}, {state}"
        )
    if plan.backbones:
        found.append(
            f"weights: torchvision's of {', '.join(plan.backbones)}, unless they are there"
        )
    return found


def _backend(plan: Plan) -> str:
    backend, why = plan.backend
    cloud = plan.study.config.cloud
    each = cloud.instance_count * cloud.max_runtime_seconds / 3600
    return (
        f"{backend}: {why}. At most: job {each:g} instance-hours, "
        f"tuner {plan.trials * each:g} (hpo.backend)"
    )


def _ceiling(plan: Plan) -> str:
    cloud = plan.study.config.cloud
    jobs = plan.jobs + plan.retrains
    return (
        f"{plan.ceiling_hours:g} instance-hours: {jobs} job{'s' if jobs > 1 else ''} x {cloud.instance_count} x "
        f"{cloud.max_runtime_seconds / 3600:g} h (cloud.max_runtime_seconds)"
        + (f", and {plan.warm_seconds} s of warm pool" if plan.warm_seconds else "")
    )


def _bytes(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count //= 1000
    return f"{count} GB"

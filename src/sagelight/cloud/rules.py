"""What SageMaker documents in prose, and would refuse or waste money on: not in the service model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator

from sagelight.cloud.debugger import debugger_problems
from sagelight.cloud.processes import batch_sizes, process_problems
from sagelight.cloud.request import OBJECTIVE, OURS, disk_key, max_wait_seconds
from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import AUTO
from sagelight.training.metric_line import COLUMNS, format_line, metric_definitions
from sagelight.tuning.ranges import MOST_VALUES
from sagelight.tuning.rules import grid_problems, hyperband_problems
from sagelight.tuning.space import Categorical, Integer, Space
from sagelight.tuning.study import Study

MOST_RANGES = 30
MOST_HYPERPARAMETERS = 100


def broken_rules(
    study: Study,
    hyperparameters: int,
    gpus: int,
    training_photos: int | None,
    one_job: bool = False,
) -> list[str]:
    """Every documented rule that a study breaks, each with what to type.

    Args:
        hyperparameters: how many static ones the request has.
        gpus: GPUs of one machine of the chosen type.
        training_photos: None where the photos are not on this machine.
        one_job: whether a study runs inside one training job.
    """
    rules: list[Callable[[Study], Iterator[str]]] = [
        _spot,
        lambda study: cloud_problems(study.config.cloud),
        _walls,
        _objective_printed,
        debugger_problems,
    ]
    if study.tunes:
        rules += (
            [hyperband_problems, _own_rules]
            if one_job
            else [_ranges, hyperband_problems, _grid, _warm_start]
        )
    found = [problem for rule in rules for problem in rule(study)]
    total = hyperparameters + (0 if one_job else len(study.space.dimensions) + 1)
    if total > MOST_HYPERPARAMETERS:
        found.append(
            f"{total} hyperparameters, the tuner's own included, and at most {MOST_HYPERPARAMETERS} are allowed: "
            "put the settings into an experiment file of your own, and type experiment=FILE.yaml"
        )
    found += process_problems(study, gpus, one_job)
    if training_photos is not None:
        found += _batches(study, training_photos)
    return found


def combinations(space: Space) -> int:
    """Trials of a grid over `space`; ranges that cannot be listed count as one."""
    return math.prod(
        len(d.values)
        if isinstance(d, Categorical)
        else len(d.values())
        if isinstance(d, Integer)
        else 1
        for d in space.dimensions
    )


def _spot(study: Study) -> Iterator[str]:
    cloud = study.config.cloud
    if not cloud.spot:
        if cloud.max_wait_seconds != AUTO:
            yield "cloud.max_wait_seconds is for spot jobs. Type cloud.spot=true or cloud.max_wait_seconds=auto"
        return
    if max_wait_seconds(cloud) < cloud.max_runtime_seconds:
        yield (
            f"cloud.max_wait_seconds={cloud.max_wait_seconds} is below cloud.max_runtime_seconds="
            f"{cloud.max_runtime_seconds}, and it includes the training. Type cloud.max_wait_seconds=auto"
        )
    if cloud.keep_alive_seconds:
        yield (
            "cloud.keep_alive_seconds keeps a machine that cloud.spot=true does not own. "
            "Type cloud.keep_alive_seconds=0 or cloud.spot=false"
        )


def cloud_problems(cloud: CloudSettings) -> Iterator[str]:
    """What is wrong with a VPC, tags or environment variables, of whatever they are for."""
    if bool(cloud.subnets) != bool(cloud.security_groups):
        yield "a VPC needs both cloud.subnets=[...] and cloud.security_groups=[...]"
    elif cloud.isolated and not cloud.subnets:
        yield (
            "cloud.isolated=true keeps jobs in a VPC of yours, with a gateway endpoint for S3. "
            "Type cloud.subnets=[...] and cloud.security_groups=[...], or cloud.network_isolation=true alone"
        )
    for name in ("tags", "environment"):
        yield from pair_problems(f"cloud.{name}", getattr(cloud, name))
    for text in cloud.tags:
        if text.startswith((OURS, "aws:")):
            owner = "sagelight's" if text.startswith(OURS) else "AWS's"
            yield f"cloud.tags: {text}: tags that begin so are {owner} own. Type another name"


def wall_notices(cloud: CloudSettings, instance_type: str, installs: bool = False) -> Iterator[str]:
    """What keys and a VPC mean for a machine, and nobody would refuse.

    Args:
        installs: whether its image fetches packages when it starts.
    """
    if cloud.kms_key and disk_key(cloud, instance_type) is None:
        yield (
            f"cloud.kms_key is not sent for the disks of {instance_type}: they are built in, and encrypted by the machine"
        )
    if cloud.subnets:
        index = ", and a way to the Python package index" if installs else ""
        yield f"your VPC needs a gateway endpoint for S3{index}"


def pair_problems(setting: str, texts: Iterable[str]) -> Iterator[str]:
    """Those of a setting's texts that are no KEY=VALUE."""
    for text in texts:
        if "=" not in text:
            yield f"{setting}: {text} is no KEY=VALUE"


def _walls(study: Study) -> Iterator[str]:
    cloud = study.config.cloud
    if cloud.has_no_network and cloud.image == AUTO:
        yield (
            f"{cloud.isolation}: AWS's image installs our requirements from the network when the job "
            "starts. Type cloud.image=URI of an image that holds requirements/train.txt"
        )


def _objective_printed(study: Study) -> Iterator[str]:
    """The objective's regular expression must find its value in a line such as training prints."""
    line = format_line(1, dict.fromkeys(COLUMNS, 0.25))
    regex = next((d["Regex"] for d in metric_definitions() if d["Name"] == OBJECTIVE), None)
    found = re.search(regex, line) if regex else None
    if found is None or float(found.group(1)) != 0.25:
        yield f"training prints no {OBJECTIVE} that {regex} finds in {line!r}"


def _ranges(study: Study) -> Iterator[str]:
    count = len(study.space.dimensions)
    if count > MOST_RANGES:
        yield f"{count} settings are varied, and a tuning job takes {MOST_RANGES}. Fix some of them with key=value"


def _grid(study: Study) -> Iterator[str]:
    return grid_problems(study, MOST_VALUES)


def _own_rules(study: Study) -> Iterator[str]:
    yield from grid_problems(study)
    if study.config.hpo.warm_start:
        yield "hpo.warm_start is for tuning jobs. Type hpo.backend=tuner, or leave it out"
    if study.config.cloud.instance_count > 1:
        yield "hpo.backend=job runs a study on one machine. Type cloud.instance_count=1 or hpo.backend=tuner"
    if any(
        d.name.split(".")[0] == "model" and d.name != "model.dropout"
        for d in study.space.dimensions
    ):
        yield "hpo.backend=job takes the weights of one network along. Type hpo.backend=tuner to vary the model"


def _warm_start(study: Study) -> Iterator[str]:
    if study.config.hpo.warm_start and study.config.hpo.strategy in ("hyperband", "grid"):
        yield (
            f"hpo.warm_start works with bayesian and random, not with hpo.strategy={study.config.hpo.strategy}. "
            "Type hpo.strategy=bayesian"
        )


def _batches(study: Study, photos: int) -> Iterator[str]:
    sizes = batch_sizes(study)
    fitting = [size for size in sizes if size <= photos]
    if len(fitting) < len(sizes):
        shown = ",".join(map(str, fitting or [max(1, min(32, photos // 4))]))
        yield (
            f"data.batch_size={max(sizes)} is larger than the {photos} training photos. Type data.batch_size={shown}"
        )

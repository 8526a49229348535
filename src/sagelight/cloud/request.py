"""Pure functions from a study to the requests that start it: nothing is read, asked or sent here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sagelight.bundle.provenance import COMMIT_VARIABLE
from sagelight.cloud.debugger import NO_SECOND_HOOK, asks_debugger, debugger_members
from sagelight.cloud.processes import started_by_container
from sagelight.cloud.settings import CloudSettings
from sagelight.config.hyperparameters import encode
from sagelight.config.setting import AUTO
from sagelight.container.paths import (
    CHECKPOINT_KEY,
    CHECKPOINTS,
    CODE,
    CODE_ARCHIVE,
    TRAINING,
    WEIGHTS,
)
from sagelight.training.metric_line import metric_definitions
from sagelight.tuning.ranges import api_ranges
from sagelight.tuning.settings import HpoSettings
from sagelight.tuning.study import Study, maximizes

OBJECTIVE = "objective"
# The tag of everything that this project creates.
OURS = "sagelight"
PROGRAM = "sagelight_job.py"
TRAINING_JOB = "CreateTrainingJob"
TUNING_JOB = "CreateHyperParameterTuningJob"
STRATEGIES = {
    "bayesian": "Bayesian",
    "random": "Random",
    "hyperband": "Hyperband",
    "grid": "Grid",
}
WARM_STARTS = {"identical": "IdenticalDataAndAlgorithm", "transfer": "TransferLearning"}
_BUILT_IN_DISKS = re.compile(
    r"ml\.(g4dn|g5|g6e?|p3dn|p4de?|p5e?n?|p6\S*|trn\d\w*|[cmr]\d[agi]?dn?)\."
)
_TUNING_NAME_LENGTH = 32
_TRAINING_NAME_LENGTH = 63
_DIGEST_LENGTH = 10


@dataclass(frozen=True)
class Place:
    """Where jobs run and on whose behalf.

    Attributes:
        rules_image: AWS's image that evaluates Debugger's rules; empty where no job asks for them.
    """

    region: str
    role: str
    bucket: str
    image: str
    rules_image: str = ""


@dataclass(frozen=True)
class Payload:
    """What a job is given.

    Attributes:
        source: S3 URI of sourcedir.tar.gz.
        data: S3 prefix of the photos.
        weights: S3 prefix of pretrained weights, or None for a job that needs none.
        overrides: what every training of the job is composed from.
        gpus: GPUs of one machine, 0 where there are none.
        commit: git commit of the code, for the bundle's provenance; no part of the job's name.
        shards: whether `data` is of shards, which `prepare` has written.
    """

    source: str
    data: str
    weights: str | None
    overrides: tuple[str, ...]
    gpus: int = 0
    commit: str | None = None
    shards: bool = False


@dataclass(frozen=True)
class Request:
    """One call of the API: its operation and its arguments."""

    operation: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """The job's name."""
        key = "TrainingJobName" if self.operation == TRAINING_JOB else "HyperParameterTuningJobName"
        return str(self.body[key])


def build_request(study: Study, place: Place, payload: Payload, one_job: bool = False) -> Request:
    """The request that starts a study, or a single training where nothing is varied.

    The job's name is the experiment's and a digest of everything else in the request, so the same command on the
    same code and photos makes the same name.

    Args:
        one_job: the study runs whole inside one training job.
    """
    return (
        tuning_request(study, place, payload)
        if study.tunes and not one_job
        else training_request(study, place, payload, one_job)
    )


def training_request(
    study: Study, place: Place, payload: Payload, one_job: bool = False
) -> Request:
    """CreateTrainingJob."""
    cloud = study.config.cloud
    torchrun = started_by_container(cloud, payload.gpus, one_job)
    body: dict[str, Any] = {
        **_training(cloud, place, payload),
        "HyperParameters": _hyperparameters(place, payload, cloud, torchrun),
        "ResourceConfig": _resources(cloud, cloud.keep_alive_seconds),
        "Tags": tags_of(cloud),
    }
    if asks_debugger(study):
        output = body["OutputDataConfig"]["S3OutputPath"]
        body |= debugger_members(study.config, output, place.rules_image)
    stem = _stem(study.config.name)
    name = f"{stem[: _TRAINING_NAME_LENGTH - _DIGEST_LENGTH - 1]}-{_digest(body, cloud)}"
    shared = replace(cloud, attempt=1)
    kept = f"{stem}-{_digest(body, shared)}"
    body["HyperParameters"][CHECKPOINT_KEY] = "run"
    body |= {
        "CheckpointConfig": _checkpoints(cloud, place, kept),
        "Environment": (NO_SECOND_HOOK if asks_debugger(study) else {})
        | _environment(cloud, payload),
    }
    return Request(TRAINING_JOB, {"TrainingJobName": name, **body})


def tuning_request(study: Study, place: Place, payload: Payload) -> Request:
    """CreateHyperParameterTuningJob."""
    cloud, hpo = study.config.cloud, study.config.hpo
    torchrun = started_by_container(cloud, payload.gpus, one_job=False)
    definition: dict[str, Any] = {
        **_training(cloud, place, payload),
        "StaticHyperParameters": _hyperparameters(place, payload, cloud, torchrun),
        "ResourceConfig": _resources(cloud, keep_alive=0),
    }
    body: dict[str, Any] = {
        "HyperParameterTuningJobConfig": _tuning(study),
        "TrainingJobDefinition": definition,
        "Tags": tags_of(cloud),
    }
    if hpo.warm_start:
        body["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": [
                {"HyperParameterTuningJobName": name} for name in hpo.warm_start
            ],
            "WarmStartType": WARM_STARTS[hpo.warm_start_type],
        }
    stem = _stem(study.config.name)[: _TUNING_NAME_LENGTH - _DIGEST_LENGTH - 1].rstrip("-")
    name = f"{stem}-{_digest(body, cloud)}"
    body["TrainingJobDefinition"] = definition | {
        "CheckpointConfig": _checkpoints(cloud, place, name),
        "Environment": _environment(cloud, payload),
    }
    return Request(TUNING_JOB, {"HyperParameterTuningJobName": name, **body})


def objective_type(hpo: HpoSettings) -> str:
    """`Maximize` or `Minimize`, as the API writes it."""
    return "Maximize" if maximizes(hpo) else "Minimize"


def _training(cloud: CloudSettings, place: Place, payload: Payload) -> dict[str, Any]:
    """What CreateTrainingJob and a tuning job's definition have in common."""
    common: dict[str, Any] = {
        "AlgorithmSpecification": {
            "TrainingImage": place.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": metric_definitions(),
        },
        "RoleArn": place.role,
        "InputDataConfig": _channels(payload, cloud),
        "OutputDataConfig": _with(
            {"S3OutputPath": f"s3://{place.bucket}/{cloud.prefix}/jobs"}, KmsKeyId=cloud.kms_key
        ),
        "StoppingCondition": _stopping(cloud),
        "EnableManagedSpotTraining": cloud.spot,
        "EnableNetworkIsolation": cloud.has_no_network,
        "EnableInterContainerTrafficEncryption": cloud.encrypts_traffic,
    }
    return _with(
        common,
        Environment=pairs_of(cloud.environment),
        VpcConfig=vpc_of(cloud),
        RetryStrategy={"MaximumRetryAttempts": cloud.retries} if cloud.retries else None,
    )


def _environment(cloud: CloudSettings, payload: Payload) -> dict[str, str]:
    # pip would name every package that the image has already.
    ours = {"PIP_QUIET": "1"}
    if payload.commit:
        ours[COMMIT_VARIABLE] = payload.commit
    return ours | (pairs_of(cloud.environment) or {})


def _hyperparameters(
    place: Place, payload: Payload, cloud: CloudSettings, torchrun: bool
) -> dict[str, str]:
    found = {
        "sagemaker_program": PROGRAM,
        # Where nothing can be fetched, the code comes as a channel.
        "sagemaker_submit_directory": CODE_ARCHIVE if cloud.has_no_network else payload.source,
        "sagemaker_region": place.region,
        # Warnings: at its own level the toolkit prints a hundred lines of variables before the first of ours.
        "sagemaker_container_log_level": "30",
        **encode(payload.overrides),
    }
    if torchrun:
        # The container then starts torchrun on every machine, with one process per GPU.
        found["sagemaker_torch_distributed_enabled"] = "true"
        found["sagemaker_instance_type"] = cloud.instance_type
    return found


def _channels(payload: Payload, cloud: CloudSettings) -> list[dict[str, Any]]:
    uris = {TRAINING: payload.data, WEIGHTS: payload.weights}
    if cloud.has_no_network:
        uris[CODE] = payload.source
    return [
        {
            "ChannelName": name,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": uri,
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
            # Shards are read one after another from where they lie; single photos are sooner copied first.
            "InputMode": "FastFile" if payload.shards and name == TRAINING else "File",
        }
        for name, uri in uris.items()
        if uri is not None
    ]


def _resources(cloud: CloudSettings, keep_alive: int) -> dict[str, Any]:
    return _with(
        {
            "InstanceType": cloud.instance_type,
            "InstanceCount": cloud.instance_count,
            "VolumeSizeInGB": cloud.volume_gb,
        },
        VolumeKmsKeyId=disk_key(cloud, cloud.instance_type),
        KeepAlivePeriodInSeconds=keep_alive or None,
    )


def _stopping(cloud: CloudSettings) -> dict[str, int]:
    stopping = {"MaxRuntimeInSeconds": cloud.max_runtime_seconds}
    if cloud.spot:
        stopping["MaxWaitTimeInSeconds"] = max_wait_seconds(cloud)
    return stopping


def max_wait_seconds(cloud: CloudSettings) -> int:
    """`cloud.max_wait_seconds`, resolved."""
    if cloud.max_wait_seconds == AUTO:
        return 2 * cloud.max_runtime_seconds
    return int(cloud.max_wait_seconds)


def _checkpoints(cloud: CloudSettings, place: Place, key: str) -> dict[str, str]:
    return {
        "S3Uri": f"s3://{place.bucket}/{cloud.prefix}/checkpoints/{key}",
        "LocalPath": CHECKPOINTS,
    }


def _tuning(study: Study) -> dict[str, Any]:
    hpo = study.config.hpo
    limits: dict[str, Any] = {"MaxParallelTrainingJobs": hpo.max_parallel_jobs}
    if hpo.strategy != "grid":
        # A grid has as many jobs as combinations; the API refuses a number beside it.
        limits["MaxNumberOfTrainingJobs"] = hpo.max_jobs
    return _with(
        {
            "Strategy": STRATEGIES[hpo.strategy],
            "HyperParameterTuningJobObjective": {
                "Type": objective_type(hpo),
                "MetricName": OBJECTIVE,
            },
            "ResourceLimits": _with(limits, MaxRuntimeInSeconds=hpo.max_study_seconds),
            "ParameterRanges": api_ranges(study.space, hpo.strategy),
            "TrainingJobEarlyStoppingType": "Auto" if hpo.early_stopping else "Off",
            "RandomSeed": study.config.seed,
        },
        StrategyConfig=_hyperband(study),
        TuningJobCompletionCriteria=_completion(hpo),
    )


def _hyperband(study: Study) -> dict[str, Any] | None:
    if study.config.hpo.strategy != "hyperband":
        return None
    resources = {
        "MinResource": study.config.hpo.min_epochs,
        "MaxResource": study.config.trainer.max_epochs,
    }
    return {"HyperbandStrategyConfig": resources}


def _completion(hpo: HpoSettings) -> dict[str, Any] | None:
    criteria: dict[str, Any] = {}
    if hpo.target is not None:
        criteria["TargetObjectiveMetricValue"] = hpo.target
    if hpo.patience is not None:
        criteria["BestObjectiveNotImproving"] = {
            "MaxNumberOfTrainingJobsNotImproving": hpo.patience
        }
    if hpo.until_converged:
        criteria["ConvergenceDetected"] = {"CompleteOnConvergence": "Enabled"}
    return criteria or None


def disk_key(cloud: CloudSettings, instance_type: str) -> str | None:
    """The key for a machine's disk; None where it is built in, which encrypts itself and for which AWS refuses one."""
    return None if _BUILT_IN_DISKS.match(instance_type) else cloud.kms_key


def vpc_of(cloud: CloudSettings) -> dict[str, list[str]] | None:
    """VpcConfig, or None where no walls are asked for."""
    if not cloud.subnets and not cloud.security_groups:
        return None
    return {"SecurityGroupIds": list(cloud.security_groups), "Subnets": list(cloud.subnets)}


def tags_of(cloud: CloudSettings) -> list[dict[str, str]]:
    """The tag by which everything of ours is found again, and the person's own."""
    tags = {OURS: "true"} | (pairs_of(cloud.tags) or {})
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def pairs_of(texts: list[str]) -> dict[str, str] | None:
    """`KEY=VALUE` texts as a mapping; None where there are none."""
    pairs = {}
    for text in texts:
        name, _, value = text.partition("=")
        pairs[name] = value
    return pairs or None


def _with(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return body | {key: value for key, value in more.items() if value is not None}


def _stem(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-") or "job"


def _digest(body: Mapping[str, Any], cloud: CloudSettings) -> str:
    text = json.dumps([body, cloud.attempt], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]

"""Pure functions from settings to Clarify's analysis, and to the processing job that runs it.

Sources: CreateProcessingJob; sagemaker-core 2.27 (sagemaker.core.clarify) for the schema of the analysis, the folders
and the upload of results; AWS's guide "Image data requirements" for what travels between Clarify and the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sagelight.cloud.clarify_settings import ClarifySettings
from sagelight.cloud.models import S3, name_of
from sagelight.cloud.request import Place, disk_key, tags_of, vpc_of
from sagelight.cloud.rules import cloud_problems, pair_problems

PROCESSING_JOB = "CreateProcessingJob"
ENDINGS = (".jpg", ".jpeg", ".png")
# Where Clarify's image looks, and leaves its results.
DATA = "/opt/ml/processing/input/data"
CONFIG = "/opt/ml/processing/input/config"
RESULTS = "/opt/ml/processing/output"
ANALYSIS = "analysis_config.json"
# What our answer calls the list that Clarify wants: one probability a class.
PROBABILITIES = "probabilities"


def analysis(settings: ClarifySettings, model: str, labels: Sequence[str]) -> dict[str, Any]:
    """The content of analysis_config.json: SHAP values of superpixels.

    Args:
        model: name of the SageMaker model; unused where `settings.endpoint` answers.
        labels: names of the classes; none leaves Clarify's own.
    """
    return {
        "dataset_type": "application/x-image",
        "predictor": {
            **_who_answers(settings, model),
            "content_type": settings.content_type,
            "accept_type": "application/json",
            "probability": PROBABILITIES,
            **({"label_headers": list(labels)} if labels else {}),
        },
        "methods": {
            "report": {"name": "report", "title": "Analysis Report"},
            "shap": {
                "use_logit": False,
                "save_local_shap_values": True,
                "num_samples": settings.samples,
                "seed": settings.seed,
                "image_config": {
                    "model_type": "IMAGE_CLASSIFICATION",
                    "num_segments": settings.segments,
                    "feature_extraction_method": "segmentation",
                    "segment_compactness": settings.compactness,
                },
            },
        },
    }


def processing_body(
    settings: ClarifySettings, asked: dict[str, Any], place: Place, source: str, photos: str
) -> dict[str, Any]:
    """CreateProcessingJob's arguments; equal photos, models and settings have an equal name.

    Args:
        asked: as `analysis` gives it.
        place: its image is Clarify's.
        source: S3 URI of the photos.
        photos: what tells their content from another's.
    """
    cloud = settings.cloud
    body: dict[str, Any] = {
        "ProcessingResources": {"ClusterConfig": _machine(settings)},
        "StoppingCondition": {"MaxRuntimeInSeconds": settings.max_runtime_seconds},
        "AppSpecification": {"ImageUri": place.image},
        "RoleArn": place.role,
        "Tags": tags_of(cloud),
        **_network(settings),
    }
    stem = settings.endpoint or asked["predictor"]["model_name"].rpartition("-")[0] or "model"
    name = name_of(f"{stem}-explained", [body, asked, source, photos, settings.attempt])
    below = f"{S3}{place.bucket}/{cloud.prefix}/clarify/{name}"
    inputs = [
        _input("dataset", source, DATA),
        _input("analysis_config", f"{below}/{ANALYSIS}", CONFIG),
    ]
    outputs: dict[str, Any] = {"Outputs": [_output(f"{below}/output")]}
    if cloud.kms_key:
        outputs["KmsKeyId"] = cloud.kms_key
    return {
        "ProcessingJobName": name,
        "ProcessingInputs": inputs,
        "ProcessingOutputConfig": outputs,
        **body,
    }


def config_uri(body: dict[str, Any]) -> str:
    """S3 URI of analysis_config.json."""
    return _input_uri(body, "analysis_config")


def photos_uri(body: dict[str, Any]) -> str:
    """S3 URI of the photos."""
    return _input_uri(body, "dataset")


def results_uri(body: dict[str, Any]) -> str:
    """S3 URI below which Clarify leaves its results."""
    [output] = body["ProcessingOutputConfig"]["Outputs"]
    return str(output["S3Output"]["S3Uri"])


def config_text(asked: dict[str, Any]) -> str:
    """The content of analysis_config.json."""
    return json.dumps(asked, indent=2) + "\n"


def ceiling_hours(settings: ClarifySettings) -> tuple[float, float]:
    """Instance-hours of Clarify's machine, and of those that answer it; 0 where an endpoint is there already."""
    hours = settings.max_runtime_seconds / 3600
    return hours, 0.0 if settings.endpoint else settings.endpoint_instance_count * hours


def broken_rules(settings: ClarifySettings, source: str, results: str) -> Iterator[str]:
    """Every documented rule that the job breaks, each with what to type."""
    if settings.cloud.has_no_network:
        switch = settings.cloud.isolation
        yield (
            f"{switch}: Clarify asks the model over the network. "
            f"Type {switch.replace('true', 'false')}"
        )
    if results.startswith(source if source.endswith("/") else f"{source}/"):
        yield (
            f"input={source} holds cloud.prefix={settings.cloud.prefix}, so results would be read as photos. "
            "Type another input, or another cloud.prefix"
        )
    yield from pair_problems("environment", settings.environment)
    yield from cloud_problems(settings.cloud)


def _who_answers(settings: ClarifySettings, model: str) -> dict[str, Any]:
    if settings.endpoint:
        return {"endpoint_name": settings.endpoint}
    return {
        "model_name": model,
        "instance_type": settings.endpoint_instance_type,
        "initial_instance_count": settings.endpoint_instance_count,
    }


def _machine(settings: ClarifySettings) -> dict[str, Any]:
    machine: dict[str, Any] = {
        "InstanceCount": 1,
        "InstanceType": settings.instance_type,
        "VolumeSizeInGB": settings.volume_gb,
    }
    disk = disk_key(settings.cloud, settings.instance_type)
    if disk:
        machine["VolumeKmsKeyId"] = disk
    return machine


def _network(settings: ClarifySettings) -> dict[str, Any]:
    walls = vpc_of(settings.cloud)
    return {"NetworkConfig": {"EnableNetworkIsolation": False, "VpcConfig": walls}} if walls else {}


def _input(name: str, uri: str, folder: str) -> dict[str, Any]:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": uri,
            "LocalPath": folder,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
        },
    }


def _output(uri: str) -> dict[str, Any]:
    # Of photos, each one's maps go up as soon as they are made.
    return {
        "OutputName": "analysis_result",
        "S3Output": {"S3Uri": uri, "LocalPath": RESULTS, "S3UploadMode": "Continuous"},
    }


def _input_uri(body: dict[str, Any], name: str) -> str:
    found = next(each for each in body["ProcessingInputs"] if each["InputName"] == name)
    return str(found["S3Input"]["S3Uri"])

"""Everything that a transform job would be, before anything is sent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagelight.cloud.client import Aws
from sagelight.cloud.contract import violations
from sagelight.cloud.models import MODEL, ModelPlan, Origin, plan_model, settled
from sagelight.cloud.place import find_place
from sagelight.cloud.transform_inputs import (
    Inputs,
    Photo,
    local_inputs,
    manifest_inputs,
    stored_inputs,
)
from sagelight.cloud.transform_manifest import MANIFESTS, S3, manifest_text, parse_manifest
from sagelight.cloud.transform_request import (
    TRANSFORM_JOB,
    broken_rules,
    transform_body,
)
from sagelight.cloud.transform_settings import TransformSettings
from sagelight.config.setting import AUTO
from sagelight.errors import SagelightError

USAGE = "Type transform job=NAME input=DIR, or bundle=DIR instead of job"
NOT_LISTED = (
    "which photos input={} holds is asked before anything starts; the job's name, its MaxPayloadInMB and whether it "
    "needs a manifest follow from that"
)
UNKNOWN = Inputs("s3://unknown/photos/", known=False)
TABLE_ENDINGS = (".csv", ".jsonl")


@dataclass(frozen=True)
class TransformPlan:
    """A transform job, ready to be sent or with the reasons why not.

    Attributes:
        body: CreateTransformJob's arguments.
        manifest: content and S3 URI of the list of photos; None where a prefix holds them and nothing else.
        answers: S3 URI below which the job leaves one answer a photo.
        unset: what only a person who has set AWS up can say; a job is not started on a guess.
        asked: what AWS is asked before anything is sent.
    """

    settings: TransformSettings
    model: ModelPlan
    inputs: Inputs
    body: dict[str, Any]
    manifest: tuple[str, str] | None
    problems: tuple[str, ...]
    unset: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.body["TransformJobName"])

    @property
    def answers(self) -> str:
        return str(self.body["TransformOutput"]["S3OutputPath"])

    @property
    def table(self) -> str:
        """Path or S3 URI of the table."""
        return self.folder + "/" + table_name(self.settings.output)

    @property
    def folder(self) -> str:
        """Folder or S3 prefix of the results, without a slash at the end."""
        output = self.settings.output
        if output == AUTO:
            return f"runs/{self.name}"
        return (
            output.rpartition("/")[0] or "."
            if output.endswith(TABLE_ENDINGS)
            else output.rstrip("/")
        )


def table_name(output: str) -> str:
    """`labels.csv`, or the file that a person has named."""
    return output.rpartition("/")[2] if output.endswith(TABLE_ENDINGS) else "labels.csv"


def plan_transform(settings: TransformSettings) -> TransformPlan:
    """Plan a transform job. Nothing is sent and no network is used; what is wrong is collected, not raised.

    Raises:
        CloudError: the packages of the AWS side are not installed.
    """
    found = find_place(settings.cloud)
    problems = [p for p in found.problems if "image" not in p]
    inputs = _inputs(settings, problems)
    origin = Origin(settings.job, settings.bundle)
    model = plan_model(origin, settings.cloud, found, settings.image, {}, "image")
    plan = _assembled(settings, model, inputs, problems)
    asked = model.assumed if inputs.known else (*model.assumed, NOT_LISTED.format(settings.input))
    return replace(plan, unset=found.assumed, asked=asked)


def settled_plan(aws: Aws, plan: TransformPlan) -> TransformPlan:
    """The plan with what S3 and AWS know: which photos there are, and where the model lies.

    Raises:
        CloudError: no photos, no such model, or AWS refuses.
    """
    settings, inputs = plan.settings, plan.inputs
    model = settled(aws, plan.model, settings.cloud)
    if not inputs.known:
        inputs = _asked(aws, str(settings.input))
    return _assembled(settings, model, inputs, [])


def _assembled(
    settings: TransformSettings, model: ModelPlan, inputs: Inputs, problems: list[str]
) -> TransformPlan:
    below = f"{S3}{model.place.bucket}/{settings.cloud.prefix}"
    source, manifest = _source(inputs, below)
    output = f"{below}/transform/{{}}"
    if settings.output.startswith(S3):
        output = (
            settings.output.rpartition("/")[0]
            if settings.output.endswith(TABLE_ENDINGS)
            else settings.output.rstrip("/")
        )
    body = transform_body(settings, inputs, source, model.name, output)
    found = [
        *problems,
        *model.problems,
        *broken_rules(settings, inputs, output, manifest is not None),
        *violations(MODEL, model.body),
        *violations(TRANSFORM_JOB, body),
    ]
    return TransformPlan(settings, model, inputs, body, manifest, tuple(dict.fromkeys(found)))


def _source(inputs: Inputs, below: str) -> tuple[dict[str, str], tuple[str, str] | None]:
    """S3DataSource, and the manifest where one is needed."""
    prefix = f"{below}/{inputs.cargo.key}/" if inputs.cargo is not None else inputs.prefix
    if inputs.whole:
        return {"S3DataType": "S3Prefix", "S3Uri": prefix}, None
    if inputs.listed_in:
        return {"S3DataType": "ManifestFile", "S3Uri": inputs.listed_in}, None
    text = manifest_text(prefix, (photo.name for photo in inputs.photos))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    uri = f"{below}/manifests/{digest}.manifest"
    return {"S3DataType": "ManifestFile", "S3Uri": uri}, (text, uri)


def _inputs(settings: TransformSettings, problems: list[str]) -> Inputs:
    given = settings.input
    if given is None:
        problems.append(f"which photos? {USAGE}")
        return UNKNOWN
    if given.startswith(S3) and given.endswith(MANIFESTS):
        return Inputs("", whole=False, listed_in=given, known=False)
    if given.startswith(S3):
        return Inputs(given if given.endswith("/") else f"{given}/", known=False)
    try:
        if given.endswith(MANIFESTS):
            prefix, names = parse_manifest(_text(given), f"input={given}")
            return Inputs(prefix, tuple(Photo(name, 0) for name in names), whole=False, known=False)
        return local_inputs(Path(given))
    except SagelightError as error:
        problems.append(str(error))
        return UNKNOWN


def _asked(aws: Aws, given: str) -> Inputs:
    if given.startswith(S3):
        return stored_inputs(aws, given)
    return manifest_inputs(aws, _text(given), f"input={given}")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SagelightError(f"input={path} cannot be read: {error.strerror}.") from error

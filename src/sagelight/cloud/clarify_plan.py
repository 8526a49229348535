"""Everything that a Clarify job would be, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagelight.bundle.spec import BundleSpec
from sagelight.cloud.clarify_request import (
    ENDINGS,
    PROCESSING_JOB,
    analysis,
    broken_rules,
    photos_uri,
    processing_body,
    results_uri,
)
from sagelight.cloud.clarify_settings import ClarifySettings
from sagelight.cloud.client import Aws
from sagelight.cloud.contract import choices, violations
from sagelight.cloud.data import Cargo, loose_photos
from sagelight.cloud.models import S3, ModelPlan, Origin, plan_model, settled
from sagelight.cloud.place import Found, clarify_image_uri, find_place
from sagelight.cloud.request import Place
from sagelight.config.setting import AUTO
from sagelight.data.index import image_paths
from sagelight.errors import BundleError, CloudError, DataError, SagelightError, suggestion

USAGE = "Type explain bundle=DIR input=DIR, or job=NAME or endpoint=NAME instead of bundle"
CLOSED = (
    "Clarify takes no new AWS customers: an account that has not used it may be refused. "
    "`python launch/local.py explain` explains the same photos and the same bundle without it"
)
REHEARSED = "the rehearsal takes the request, but Clarify's image runs at AWS only"
UNNAMED = "the classes will be called label0, label1, ...: type labels=[...] in the model's order to name them"


@dataclass(frozen=True)
class ClarifyPlan:
    """A Clarify job, ready to be sent or with the reasons why not.

    Attributes:
        model: what answers; None where an endpoint does already.
        photos: what goes up first; None for photos that lie in S3.
        analysis: the content of analysis_config.json.
        body: CreateProcessingJob's arguments.
        assumed: on what the job is not started.
        asked: what AWS is asked before anything is sent.
    """

    settings: ClarifySettings
    place: Place
    model: ModelPlan | None
    photos: Cargo | None
    analysis: dict[str, Any]
    body: dict[str, Any]
    problems: tuple[str, ...]
    assumed: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.body["ProcessingJobName"])

    @property
    def folder(self) -> Path:
        """Where the results go."""
        output = self.settings.output
        return Path("runs") / self.name if output == AUTO else Path(output)


def plan_clarify(settings: ClarifySettings) -> ClarifyPlan:
    """Plan a job. Nothing is sent and no network is used; what is wrong is collected, not raised.

    Raises:
        CloudError: the packages of the AWS side are not installed.
    """
    found = find_place(settings.cloud)
    problems = [text for text in found.problems if "image" not in text]
    place = _place(found, problems)
    model = None if settings.endpoint else _model(settings, found, problems)
    if settings.endpoint and (settings.job or settings.bundle):
        problems.append(f"endpoint={settings.endpoint} answers with its own model. {USAGE}")
    source, photos = _photos(settings, place, problems)
    plan = ClarifyPlan(settings, place, model, photos, {}, {}, (), found.assumed)
    return _assembled(plan, source, problems)


def settled_plan(aws: Aws, plan: ClarifyPlan) -> ClarifyPlan:
    """The plan with what AWS knows: where the model lies.

    Raises:
        CloudError: no such job or archive, or AWS refuses.
    """
    if plan.model is None:
        return plan
    model = settled(aws, plan.model, plan.settings.cloud)
    return _assembled(replace(plan, model=model), photos_uri(plan.body), [])


def _assembled(plan: ClarifyPlan, source: str, problems: list[str]) -> ClarifyPlan:
    settings, model = plan.settings, plan.model
    labels, unnamed = _labels(settings)
    asked = analysis(settings, model.name if model else "", labels)
    mark = plan.photos.fingerprint if plan.photos else ""
    body = processing_body(settings, asked, plan.place, source, mark)
    found = [
        *problems,
        *(model.problems if model else ()),
        *broken_rules(settings, source, results_uri(body)),
        *violations(PROCESSING_JOB, body),
        *_endpoint_problems(settings),
    ]
    notices = [CLOSED, *unnamed, *(model.notices if model else ())]
    if settings.cloud.name == "rehearsal":
        notices.append(REHEARSED)
    return replace(
        plan,
        analysis=asked,
        body=body,
        problems=tuple(dict.fromkeys(found)),
        asked=model.assumed if model else (),
        notices=tuple(notices),
    )


def _place(found: Found, problems: list[str]) -> Place:
    """With Clarify's image."""
    try:
        return replace(found.place, image=clarify_image_uri(found.place.region))
    except CloudError as error:
        problems.append(str(error))
        return replace(found.place, image="unknown")


def _model(settings: ClarifySettings, found: Found, problems: list[str]) -> ModelPlan | None:
    if not settings.job and not settings.bundle:
        problems.append(f"which model? {USAGE}")
        return None
    pairs = [text.partition("=") for text in settings.environment]
    environment = {name: value for name, _, value in pairs}
    origin = Origin(settings.job, settings.bundle)
    return plan_model(origin, settings.cloud, found, settings.image, environment, "image")


def _photos(
    settings: ClarifySettings, place: Place, problems: list[str]
) -> tuple[str, Cargo | None]:
    """S3 URI of the photos, and what goes up there first."""
    given = settings.input
    below = f"{S3}{place.bucket}/{settings.cloud.prefix}"
    if given is None:
        problems.append(f"which photos? {USAGE}")
    elif given.startswith(S3):
        single = given.lower().endswith(ENDINGS)
        return given if single or given.endswith("/") else f"{given}/", None
    else:
        try:
            cargo = local_photos(Path(given))
            return f"{below}/{cargo.key}/", cargo
        except SagelightError as error:
            problems.append(str(error))
    return f"{below}/photos/unknown/", None


def local_photos(given: Path) -> Cargo:
    """The JPEG and PNG files of a folder, or a single one; Clarify reads no others.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    if given.is_file():
        root, names = given.parent, [given.name]
    else:
        root, names = given, sorted(image_paths(given)) if given.is_dir() else []
    fit = [name for name in names if name.lower().endswith(ENDINGS)]
    if not fit:
        raise DataError(
            f"input={given} has no photos that Clarify reads: it takes {', '.join(ENDINGS)}. "
            "Type input=DIR of others, or `python launch/local.py explain`, which takes more formats."
        )
    return loose_photos(root, fit)


def _endpoint_problems(settings: ClarifySettings) -> Iterator[str]:
    """Clarify makes the endpoint itself, so no request of ours names its machines."""
    kind, known = settings.endpoint_instance_type, choices("ProductionVariantInstanceType")
    if kind not in known:
        yield f"endpoint_instance_type: there is no {kind}.{suggestion(kind, known)}"


def _labels(settings: ClarifySettings) -> tuple[list[str], list[str]]:
    """Names of the classes, and a notice where they are not known."""
    if settings.labels:
        return settings.labels, []
    if settings.bundle and not settings.bundle.startswith(S3):
        try:
            return BundleSpec.read(Path(settings.bundle)).labels, []
        except BundleError:
            return [], []  # The model's plan tells what is wrong with it.
    return [], [UNNAMED]

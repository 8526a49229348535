"""Every rehearsal of these stories is asked only what the policies allow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from permitted import PERSON, Recorder
from sagelight.cloud.policies import document, tables
from sagelight.cloud.policies_ground import Ground
from sagelight.cloud.request import Place
from sagelight.cloud.settings import CloudSettings
from sagelight.rehearsal.command import ROLE
from sagelight.rehearsal.server import ACCOUNT, REGION, Rehearsal, rehearsal

BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
# Where these stories keep photos, programs and answers outside of the default bucket's prefix.
ELSEWHERE = ("s3://theirs", f"s3://{BUCKET}/source", f"s3://{BUCKET}/elsewhere")


@pytest.fixture(scope="module")
def running() -> Iterator[Rehearsal]:
    """A rehearsal that stays for all stories of a module."""
    with rehearsal() as stays:
        yield stays


@pytest.fixture(scope="session")
def recorder() -> Recorder:
    place = Place(REGION, ROLE, BUCKET, "none")
    found = tables(
        Ground(CloudSettings(), place, writes=ELSEWHERE, scheduler_role=ROLE, clarify=True)
    )
    person = [document(found[name]) for name in ("person-train.json", "person-serve.json")]
    return Recorder({PERSON: person, "job": [document(found["job.json"])]})


@pytest.fixture(scope="session", autouse=True)
def _listened_to(recorder: Recorder) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rehearsal, "_answer", recorder.wrap(Rehearsal._answer))
        yield


@pytest.fixture(autouse=True)
def _permitted(recorder: Recorder) -> Iterator[None]:
    yield
    complaints, recorder.complaints[:] = list(recorder.complaints), []
    assert complaints == []

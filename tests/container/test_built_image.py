"""Our image, built from docker/Dockerfile and started with `serve`, where a builder and a base image are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import make_bundle
from container.asking import free_port, invoke, jpeg, wait_until_healthy
from container.builders import Builder, BuildError, build, buildah, engine, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    found = engine() or buildah(tmp_path_factory.mktemp("storage"))
    if found is None:
        pytest.skip("neither Docker nor Podman answers here, and there is no buildah for root")
    try:
        build(found)
    except BuildError as error:
        if "creating build container" in str(error) or "pull" in str(error):
            pytest.skip(
                f"no base image: {error}. Name one that is here: SAGELIGHT_IMAGE_PYTHON=NAME"
            )
        raise
    return found


def test_the_image_answers_as_sagemaker_asks_and_stops_when_told(
    builder: Builder, tmp_path: Path
) -> None:
    port = free_port()
    # Whoever the image runs as may read what SageMaker unpacks.
    tmp_path.chmod(0o755)
    with started(builder, make_bundle(tmp_path / "model"), port) as stop:
        wait_until_healthy(port, 60)
        for colour in ("red", "green", "blue"):
            status, answer = invoke(port, jpeg(colour), "image/jpeg")
            assert (status, answer["label"]) == (200, colour)
        assert invoke(port, b"[1]", "application/x-npy")[0] == 415
        assert stop() == 0

"""The verb `invoke`: one photo to an endpoint, and its answer on stdout."""

from __future__ import annotations

import json
from pathlib import Path

from sagelight.cloud.cleanup import NO_REHEARSAL
from sagelight.cloud.client import Aws
from sagelight.cloud.deploy import standing
from sagelight.cloud.endpoint import MOST_BYTES, Predictor, content_type_of
from sagelight.cloud.endpoint_follow import (
    IN_SERVICE,
    PASSING,
    EndpointState,
    find_endpoint,
    mode_of,
)
from sagelight.cloud.endpoint_settings import ASYNC, InvokeSettings
from sagelight.cloud.place import region_of
from sagelight.config.setting import AUTO
from sagelight.errors import CloudError, ConfigError, Interrupted


def run_invoke(settings: InvokeSettings) -> None:
    """Print what an endpoint says about one photo.

    Raises:
        ConfigError: no endpoint, or no photo.
        CloudError: no such endpoint, not in service, a photo that it refuses, or AWS refuses.
    """
    if settings.endpoint is None:
        raise ConfigError("which endpoint? Type endpoint=NAME, as deploy printed it.")
    data = _photo(settings.input)
    cloud = standing(settings.cloud)
    if cloud.name == "rehearsal" and not cloud.endpoint_url:
        raise CloudError(NO_REHEARSAL)
    aws = Aws(cloud, region_of(cloud))
    state = find_endpoint(aws, settings.endpoint)
    _refuse_silent(state)
    mode = mode_of(aws, state)
    _refuse_large(data, mode, str(settings.input))
    kind = settings.content_type if settings.content_type != AUTO else content_type_of(data)
    predictor = Predictor(settings.endpoint, accept=settings.accept, aws=aws)
    typed = {"ContentType": kind}
    if mode == ASYNC:
        pending = predictor.predict_async(data, initial_args=typed)
        try:
            answer = pending.get_result(settings.timeout_seconds)
        except KeyboardInterrupt as stop:
            raise Interrupted(f"the answer will lie in {pending.output_path}") from stop
    else:
        answer = predictor.predict(data, initial_args=typed)
    print(answer.rstrip("\n") if isinstance(answer, str) else json.dumps(answer))


def _photo(path: str | None) -> bytes:
    if path is None:
        raise ConfigError("which photo? Type input=FILE.")
    if not Path(path).is_file():
        raise ConfigError(f"input={path}: there is no such file. Type input=FILE of one photo.")
    return Path(path).read_bytes()


def _refuse_silent(state: EndpointState) -> None:
    # While it is updated, the old machines answer.
    if state.status in (IN_SERVICE, "Updating", "SystemUpdating", "RollingBack"):
        return
    if state.status in PASSING:
        raise CloudError(f"{state.name} is {state.status} and does not answer yet. Wait a little.")
    raise CloudError(f"{state.name} is {state.status}: {state.reason or 'it answers nobody'}.")


def _refuse_large(data: bytes, mode: str, path: str) -> None:
    most = MOST_BYTES[mode]
    if len(data) > most:
        other = (
            "Make the photo smaller."
            if mode == ASYNC
            else "Make the photo smaller, or deploy with mode=async."
        )
        raise CloudError(
            f"{path} has {len(data):,} bytes, and a {mode} endpoint takes {most:,}. {other}"
        )

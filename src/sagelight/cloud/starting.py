"""Starting a job once, also where the answer to the request is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sagelight.cloud.answers import error_code, is_unsure
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.follow import look_up
from sagelight.errors import CloudError

DOOR = "python launch/sagemaker.py"
# botocore asks again where an answer was lost, and hears of its own first request.
TAKEN = "ResourceInUse"


@contextmanager
def starting(aws: Aws, name: str, kind: str) -> Iterator[None]:
    """The block asks for a job whose name nobody has had; it ends well when the job is there, whatever was heard.

    Args:
        kind: `training`, `tuning`, `transform` or `processing`.

    Raises:
        CloudError: the job was refused; or nobody knows whether it was, and the message says how to find out.
    """
    try:
        with explained(f"starting {name}"):
            yield
    except CloudError as error:
        cause = error.__cause__
        unsure = is_unsure(cause)
        if not unsure and error_code(cause) != TAKEN:
            raise
        if _is_there(aws, name, kind):
            return
        raise CloudError(
            f"{error} {name} may run all the same, and be paid: the same command finds it, "
            f"and so does {DOOR} status job={name}."
        ) from error


@contextmanager
def going_on(name: str, paid: bool, come_back: str) -> Iterator[None]:
    """What fails while a job is followed says that the job goes on."""
    try:
        yield
    except CloudError as error:
        raise CloudError(f"{error} {name} goes on{', and is paid' * paid}. {come_back}") from error


def _is_there(aws: Aws, name: str, kind: str) -> bool:
    try:
        return look_up(aws, name, (kind,)) is not None
    except CloudError:
        return False

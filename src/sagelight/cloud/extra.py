"""The optional packages of the AWS side."""

from __future__ import annotations

from importlib.util import find_spec

from sagelight.errors import CloudError


def require_aws() -> None:
    """Refuse, in words, when `sagelight[aws]` is not installed.

    Raises:
        CloudError: naming what to install.
    """
    for module in ("boto3", "sagemaker"):
        if find_spec(module) is None:
            raise CloudError(
                f"{module} is not installed, and SageMaker jobs need it. Type pip install 'sagelight[aws]'."
            )

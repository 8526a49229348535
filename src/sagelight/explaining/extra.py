"""The optional package of explaining."""

from __future__ import annotations

from importlib.util import find_spec

from sagelight.errors import SagelightError


def captum_is_installed() -> bool:
    return find_spec("captum") is not None


def require_captum() -> None:
    """Refuse, in words, when `sagelight[explain]` is not installed.

    Raises:
        SagelightError: naming what to install.
    """
    if not captum_is_installed():
        raise SagelightError(
            "captum is not installed, and Grad-CAM needs it. Type pip install 'sagelight[explain]', "
            "or method=occlusion, which needs nothing more."
        )

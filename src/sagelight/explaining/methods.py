"""The ways to explain a label, behind one signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sagelight.errors import SagelightError
from sagelight.explaining.extra import captum_is_installed, require_captum
from sagelight.explaining.occlusion import BATCH, Answers, Heat, Pixels, occlusion_evidence
from sagelight.serving.predictor import Predictor

CHOICES = ("auto", "gradcam", "occlusion", "both")


class Method(Protocol):
    """How maps are made.

    Attributes:
        name: as it is typed.
        title: as it is shown.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    def evidence(self, pixels: Pixels, targets: Sequence[int]) -> Heat:
        """What each part of a photo (3, H, W) says for each class: (targets, H, W), negative where against it."""
        ...

    def facts(self) -> dict[str, Any]:
        """What a reader of the maps should know of how they were made."""
        ...


@dataclass(frozen=True)
class Occlusion:
    """Hides parts of the photo, and asks `answers`."""

    answers: Answers
    batch: int = BATCH
    name: str = "occlusion"
    title: str = "Occlusion"

    def evidence(self, pixels: Pixels, targets: Sequence[int]) -> Heat:
        return occlusion_evidence(self.answers, pixels, targets, self.batch)

    def facts(self) -> dict[str, Any]:
        return {"unit": "log-odds lost"}


def methods_of(choice: str, bundle: Path, predictor: Predictor, batch: int) -> list[Method]:
    """The methods that were chosen, Grad-CAM first.

    Args:
        choice: one of CHOICES; `auto` is both where captum is installed and the bundle is in fp32, else occlusion.

    Raises:
        SagelightError: Grad-CAM was asked for and cannot be had.
    """
    occlusion = Occlusion(predictor, batch)
    precision = predictor.spec.precision
    if choice == "auto" and (precision != "fp32" or not captum_is_installed()):
        choice = "occlusion"
    if choice == "occlusion":
        return [occlusion]
    if precision != "fp32":
        raise SagelightError(
            f"this bundle answers in {precision}, which has no gradients. Type bundle=DIR of the fp32 bundle that it "
            "was made from, or method=occlusion."
        )
    require_captum()
    from sagelight.explaining.gradcam import GradCam

    gradcam = GradCam.load(bundle, predictor)
    return [gradcam] if choice == "gradcam" else [gradcam, occlusion]

"""Grad-CAM by captum. Source: Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sagelight.explaining.extra import require_captum
from sagelight.explaining.layers import find_map_layer
from sagelight.explaining.occlusion import Heat, Pixels
from sagelight.explaining.rebuilt import rebuild_network
from sagelight.models.network import Network
from sagelight.serving.predictor import Predictor


class GradCam:
    """Grad-CAM of one network.

    Attributes:
        network: in evaluation mode.
        layer: where it looks.
    """

    name = "gradcam"
    title = "Grad-CAM"

    def __init__(self, network: Network, backbone: str, image_size: int) -> None:
        """`backbone` is torchvision's name of the network.

        Raises:
            SagelightError: captum is not installed, or no layer gives a map.
        """
        require_captum()
        self.network = network
        self.layer = find_map_layer(network.backbone, backbone, image_size)
        self._map = nn.Identity()

    @classmethod
    def load(cls, folder: Path, predictor: Predictor) -> GradCam:
        """Of a bundle; see `rebuild_network`.

        Raises:
            SagelightError: captum is not installed, or no layer gives a map.
            BundleError: the network cannot be rebuilt as it was trained.
        """
        require_captum()
        spec = predictor.spec
        network = rebuild_network(folder, predictor)
        return cls(network, spec.backbone, spec.preprocessing.image_size)

    def evidence(self, pixels: Pixels, targets: Sequence[int]) -> Heat:
        """How much each part of a photo speaks for each class.

        Args:
            pixels: uint8 (3, H, W).
            targets: positions of classes.

        Returns:
            (targets, H, W): what the score of the class gains there, in the units of the score; negative where the
            picture speaks against it. The map of the layer, drawn smoothly over the pixels.
        """
        from captum.attr import LayerGradCam

        images = self.network.normalise(torch.from_numpy(pixels)[None]).repeat(
            len(targets), 1, 1, 1
        )
        module = self.network.backbone.get_submodule(self.layer.name)
        handle = module.register_forward_hook(self._through_map)
        try:
            found = LayerGradCam(self._scores, self._map).attribute(
                images, target=torch.tensor(list(targets))
            )
        finally:
            handle.remove()
        return _spread(found, pixels.shape[1:])

    def facts(self) -> dict[str, Any]:
        return {
            "unit": "score gained",
            "layer": self.layer.name,
            "cells": [self.layer.side, self.layer.side],
        }

    def _scores(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network.head(self.network.features(images))
        return scores

    def _through_map(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        """Captum takes maps with channels first only; this module's output passes as one through `_map`."""
        return self.layer.from_map(self._map(self.layer.to_map(output)), output)


def _spread(found: Tensor, size: tuple[int, ...]) -> Heat:
    smooth = nn.functional.interpolate(found.detach(), size, mode="bilinear", align_corners=False)
    evidence: NDArray[np.float32] = smooth[:, 0].numpy().astype(np.float32)
    return evidence

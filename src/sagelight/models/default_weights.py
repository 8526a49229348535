"""Where torchvision's weights lie on this machine: `python -m sagelight.models.default_weights resnet50`.

A program of its own, because the launcher of cloud jobs does not import torch.
"""

from __future__ import annotations

import json
import sys

from sagelight.cli import guarded
from sagelight.models.weights import cached_default_weights


def main() -> None:
    """Print a JSON map from network to file; what is missing is downloaded.

    Raises:
        WeightsError: neither there nor reachable.
    """
    print(json.dumps({name: str(cached_default_weights(name)) for name in sys.argv[1:]}))


if __name__ == "__main__":
    sys.exit(guarded(main))

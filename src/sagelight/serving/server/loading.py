"""A bundle for both: whoever is alone gets all cores, a batch gets its share."""

from __future__ import annotations

import ctypes
import sys

from sagelight.serving.predictor import Predictor
from sagelight.serving.server.settings import Shares


def load(bundle: str, shares: Shares) -> tuple[Predictor, Predictor]:
    """A predictor for a photo that is alone, and one for batches; the same where both have as many cores.

    Raises:
        BundleError: the bundle cannot be used.
    """
    alone = Predictor.load(bundle, shares.threads)
    _give_back_freed_memory()
    if shares.batch_threads == shares.threads:
        return alone, alone
    batched = Predictor.load(bundle, shares.batch_threads)
    _give_back_freed_memory()
    return alone, batched


def _give_back_freed_memory() -> None:
    # What ONNX Runtime needs to read a file is twice the file, and glibc keeps it for later.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)

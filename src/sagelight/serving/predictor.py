"""A bundle that answers: images in, labels with probabilities out, by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sagelight.bundle.spec import INPUT, OUTPUT, BundleSpec
from sagelight.errors import BundleError, first_line
from sagelight.serving.views import Source, take_views


@dataclass(frozen=True)
class Prediction:
    """What one image shows: the first label, its probability, and the best labels in order."""

    label: str
    confidence: float
    top: list[tuple[str, float]]


class Predictor:
    """The model of a bundle.

    Attributes:
        spec: the content of bundle.json.
        tta: the views of each image whose probabilities are averaged; see `views.take_views`.
    """

    def __init__(
        self, spec: BundleSpec, session: onnxruntime.InferenceSession, tta: str = "none"
    ) -> None:
        self.spec = spec
        self.tta = tta
        self._session = session

    @classmethod
    def load(cls, bundle: str | Path, threads: int | None = None, tta: str = "none") -> Predictor:
        """Read a bundle folder.

        Args:
            bundle: the folder that holds bundle.json and model.onnx.
            threads: of one inference; None lets ONNX Runtime use every core.
            tta: test-time augmentation: `none`, `flip` (2 views) or `crops` (10).

        Raises:
            BundleError: missing, damaged, or a graph that does not fit bundle.json.
        """
        folder = Path(bundle)
        spec = BundleSpec.read(folder)
        session = _session(folder / "model.onnx", threads)
        _check_fit(folder, spec, session)
        return cls(spec, session, tta)

    def with_model(self, model: Path) -> Predictor:
        """The same bundle with another model.onnx."""
        return Predictor(self.spec, _session(model, None), self.tta)

    @property
    def labels(self) -> list[str]:
        return self.spec.labels

    def pixels(self, source: Source) -> NDArray[np.uint8]:
        """What the network sees of an image: (3, H, W), or with `tta` its views (V, 3, H, W), uint8.

        Raises:
            UnreadableImageError: see `preprocessing.decode`.
        """
        views = take_views(self.spec.preprocessing, source, self.tta)
        return views[0] if self.tta == "none" else views

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (B, C) of images, stacked as `pixels` gives them; of several views, their mean."""
        flat = pixels.reshape(-1, *pixels.shape[-3:])
        result: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: flat})[0]
        if pixels.ndim == 4:
            return result
        mean: NDArray[np.float32] = result.reshape(*pixels.shape[:2], -1).mean(axis=1)
        return mean

    def predict(
        self, sources: Sequence[Source], top_k: int = 5, batch_size: int = 32
    ) -> list[Prediction]:
        """Label images, `batch_size` at a time; `top` holds at most `top_k` labels.

        Raises:
            UnreadableImageError: one of the sources is no image; see `preprocessing.decode`.
        """
        predictions = []
        for start in range(0, len(sources), batch_size):
            batch = [self.pixels(source) for source in sources[start : start + batch_size]]
            rows = self.probabilities(np.stack(batch))
            predictions += [ranked(self.labels, row, top_k) for row in rows]
        return predictions


def ranked(labels: Sequence[str], row: NDArray[np.float32], top_k: int) -> Prediction:
    """The `top_k` best labels of one row of probabilities; of equals, the first comes first."""
    best = np.argsort(-row, kind="stable")[:top_k]
    top = [(labels[index], float(row[index])) for index in best]
    label, confidence = top[0]
    return Prediction(label, confidence, top)


def _session(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise BundleError(f"{path} is missing. Copy the whole bundle again, or train again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Its threads look out for work for milliseconds after the last; a server's event loop needs their core.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(
            # A second try with the same provider prints what the error says, too.
            path,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,
        )
    except Exception as error:  # ONNX Runtime's errors share no narrower base class.
        raise BundleError(
            f"{path} is damaged ({first_line(error)}). Copy the bundle again, or train again."
        ) from error


def _check_fit(folder: Path, spec: BundleSpec, session: onnxruntime.InferenceSession) -> None:
    side, classes = spec.preprocessing.image_size, len(spec.labels)
    expected = [
        f"input {INPUT} tensor(uint8)[batch, 3, {side}, {side}]",
        f"output {OUTPUT} tensor(float)[batch, {classes}]",
    ]
    found = [_signature("input", node) for node in session.get_inputs()]
    found += [_signature("output", node) for node in session.get_outputs()]
    if found != expected:
        raise BundleError(
            f"{folder / 'model.onnx'} does not fit bundle.json: it has {', '.join(found)} where "
            f"{', '.join(expected)} belongs. They come from different runs: copy the bundle again."
        )


def _signature(kind: str, node: onnxruntime.NodeArg) -> str:
    first, *rest = node.shape
    sizes = [first if isinstance(first, int) else "batch", *rest]
    shape = ", ".join(str(size) for size in sizes)
    return f"{kind} {node.name} {node.type}[{shape}]"

"""model.onnx in 8-bit integers: smaller, and faster on processors that multiply them.

Static quantisation by ONNX Runtime in its QDQ format; the ranges of activations are those of calibration photos.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagelight.bundle.spec import INPUT

# What a classifier spends its time in. Normalisation, LayerNorm and softmax stay in fp32.
OPERATORS = ["Conv", "MatMul", "Gemm", "Add", "MaxPool", "GlobalAveragePool"]


def quantize_model(
    source: Path, target: Path, calibration: Iterable[NDArray[np.uint8]], scratch: Path
) -> None:
    """Write an int8 `target` of a fp32 `source`.

    Args:
        calibration: batches of pixels (B, 3, H, W), uint8, like those that it will meet.
        scratch: an empty folder for files in between.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = scratch / "prepared.onnx"
    level = logging.root.level
    # It advises, on the root logger, what is done here already.
    logging.root.setLevel(logging.ERROR)
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Seven bits: sums of eight-bit products saturate on processors without VNNI, and the loss
            # that is measured on one machine must hold on the next.
            reduce_range=True,
        )
    finally:
        logging.root.setLevel(level)
        prepared.unlink(missing_ok=True)


def _reader(calibration: Iterable[NDArray[np.uint8]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[np.uint8]] = iter(calibration)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader()

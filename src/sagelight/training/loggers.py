"""The loggers that a run was asked to have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytorch_lightning.loggers import Logger

from sagelight.config.schema import Config
from sagelight.errors import RunError


def build_loggers(config: Config, folder: Path) -> list[Logger]:
    """TensorBoard and MLflow, as chosen; metrics.csv is written by a callback.

    Raises:
        RunError: a logger whose package is not installed.
    """
    loggers: list[Logger] = []
    if config.logger.tensorboard:
        from pytorch_lightning.loggers import TensorBoardLogger

        loggers.append(
            _optional("tensorboard", lambda: TensorBoardLogger(folder, "", "tensorboard"))
        )
    if config.logger.mlflow:
        from pytorch_lightning.loggers import MLFlowLogger

        loggers.append(
            _optional(
                "mlflow",
                lambda: MLFlowLogger(config.name, folder.name, config.logger.mlflow_uri),
            )
        )
    return loggers


def _optional(extra: str, build: Callable[[], Logger]) -> Logger:
    try:
        return build()
    except ModuleNotFoundError as error:
        raise RunError(
            f"logger={extra} needs a package that is not installed. "
            f"Type pip install 'sagelight[{extra}]', or logger=csv."
        ) from error

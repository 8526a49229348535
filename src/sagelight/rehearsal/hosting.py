"""Hosting in the rehearsal: models, and what runs them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sagelight.rehearsal.endpoints import Endpoints
from sagelight.rehearsal.invocations import Answer, Invocations
from sagelight.rehearsal.model_server import DownloadError, ModelServer, Reply
from sagelight.rehearsal.refusal import Body, Refusal
from sagelight.rehearsal.schedules import Schedules

__all__ = ["DownloadError", "Hosting", "ModelServer", "Reply"]


class Hosting:
    """All models and endpoints of one rehearsal.

    Attributes:
        models: CreateModel's arguments by name, with `CreationTime`.
    """

    def __init__(
        self, region: str, account: str, clients: Any, environment: Mapping[str, str]
    ) -> None:
        self.models: dict[str, Body] = {}
        self._arn = f"arn:aws:sagemaker:{region}:{account}"
        self._clients = clients
        self._environment = environment
        self._lock = threading.Lock()
        self.endpoints = Endpoints(self._arn, clients.logs, self.start, self.model)
        self._invocations = Invocations(self.endpoints, clients.s3, region, account)
        self._schedules = Schedules(
            account, region, self.endpoints.endpoints, self.endpoints.delete
        )

    def operations(self) -> dict[str, Callable[[Body], Body]]:
        """The API's operations on models, endpoint configurations and endpoints."""
        return {
            "CreateModel": self._create_model,
            "DescribeModel": lambda body: self._described(self.model(body["ModelName"])),
            "DeleteModel": self._delete_model,
            "ListModels": self._list_models,
            **self.endpoints.operations(),
        }

    def model(self, name: str) -> Body:
        """CreateModel's arguments.

        Raises:
            Refusal: there is no such model.
        """
        if name not in self.models:
            raise Refusal("ValidationException", f'Could not find model "{self._model_arn(name)}".')
        return self.models[name]

    def start(self, name: str, scratch: Path, heard: Callable[[str], None]) -> ModelServer:
        """Start a model's container in `scratch`.

        Raises:
            Refusal: there is no such model.
            DownloadError: its archive cannot be had.
        """
        container = self.model(name)["PrimaryContainer"]
        return ModelServer(
            container["ModelDataUrl"],
            container.get("Environment", {}),
            scratch,
            self._clients.s3,
            self._environment,
            heard,
        )

    def close(self) -> None:
        """End whatever runs."""
        self._schedules.close()
        self._invocations.close()
        self.endpoints.close()

    def invoke(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer a request of SageMaker Runtime; see `Invocations.answer`."""
        return self._invocations.answer(path, headers, body)

    def _create_model(self, body: Body) -> Body:
        name = body["ModelName"]
        if not body.get("PrimaryContainer", {}).get("ModelDataUrl"):
            raise Refusal(
                "ValidationException", "the rehearsal runs models with one container and its data"
            )
        with self._lock:
            if name in self.models:
                raise Refusal(
                    "ValidationException",
                    f'Cannot create already existing model "{self._model_arn(name)}".',
                )
            self.models[name] = {**body, "CreationTime": time.time()}
        return {"ModelArn": self._model_arn(name)}

    def _described(self, model: Body) -> Body:
        shown = {key: value for key, value in model.items() if key != "Tags"}
        return {
            "EnableNetworkIsolation": False,
            **shown,
            "ModelArn": self._model_arn(model["ModelName"]),
        }

    def _delete_model(self, body: Body) -> Body:
        self.model(body["ModelName"])
        del self.models[body["ModelName"]]
        return {}

    def _list_models(self, body: Body) -> Body:
        part = body.get("NameContains", "")
        newest_first = sorted(self.models.values(), key=lambda model: -model["CreationTime"])
        return {
            "Models": [
                {
                    "ModelName": model["ModelName"],
                    "ModelArn": self._model_arn(model["ModelName"]),
                    "CreationTime": model["CreationTime"],
                }
                for model in newest_first
                if part in model["ModelName"]
            ]
        }

    def _model_arn(self, name: str) -> str:
        return f"{self._arn}:model/{name}"

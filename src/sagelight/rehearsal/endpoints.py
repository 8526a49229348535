"""Endpoints of the rehearsal and their configurations: the operations of the API.

What differs from the service: one container stands for all machines of a variant, autoscaling is noted and not done,
and a container that ends while it starts fails its endpoint at once instead of being started again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sagelight.rehearsal.endpoint import DELETING, FAILED, IN_SERVICE, Endpoint, StartModel
from sagelight.rehearsal.refusal import Body, Refusal


class Endpoints:
    """All endpoints and their configurations."""

    def __init__(
        self, arn: str, logs: Any, start: StartModel, check_model: Callable[[str], object]
    ) -> None:
        """Arguments: the beginning of every ARN; a client of CloudWatch Logs; what starts a model's container; what
        refuses the name of a model that there is not."""
        self.endpoints: dict[str, Endpoint] = {}
        self.configs: dict[str, Body] = {}
        self._arn, self._logs, self._start, self._check_model = arn, logs, start, check_model
        self._lock = threading.Lock()

    def operations(self) -> dict[str, Callable[[Body], Body]]:
        """The API's operations on endpoints and configurations."""
        return {
            "CreateEndpointConfig": self._create_config,
            "DescribeEndpointConfig": self._describe_config,
            "DeleteEndpointConfig": self._delete_config,
            "ListEndpointConfigs": lambda _: {
                "EndpointConfigs": [self._config_summary(each) for each in self.configs.values()]
            },
            "CreateEndpoint": self._create,
            "UpdateEndpoint": self._update,
            "DescribeEndpoint": lambda body: self._find(body).describe(),
            "DeleteEndpoint": self.delete,
            "ListEndpoints": lambda _: {
                "Endpoints": [each.summary() for each in list(self.endpoints.values())]
            },
        }

    def delete(self, body: Mapping[str, Any]) -> Body:
        """DeleteEndpoint: refused while it is created or updated, as by the service."""
        with self._lock:
            endpoint = self._find(body)
            if endpoint.status == DELETING:
                return {}
            self._refuse_busy(endpoint)
            endpoint.status = DELETING
        threading.Thread(target=self._end, args=(endpoint,), daemon=True).start()
        return {}

    def close(self) -> None:
        """End every container."""
        enders = [
            threading.Thread(target=endpoint.close) for endpoint in list(self.endpoints.values())
        ]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()

    def _create_config(self, body: Body) -> Body:
        name = body["EndpointConfigName"]
        if len(body["ProductionVariants"]) > 1:
            raise Refusal("ValidationException", "the rehearsal runs one production variant")
        for variant in body["ProductionVariants"]:
            self._check_model(variant.get("ModelName", ""))
        with self._lock:
            if name in self.configs:
                raise Refusal(
                    "ValidationException",
                    f'Cannot create already existing endpoint configuration "{self._config_arn(name)}".',
                )
            self.configs[name] = {**body, "CreationTime": time.time()}
        return {"EndpointConfigArn": self._config_arn(name)}

    def _describe_config(self, body: Body) -> Body:
        config = self._config(body["EndpointConfigName"])
        shown = {key: value for key, value in config.items() if key != "Tags"}
        return {**shown, "EndpointConfigArn": self._config_arn(config["EndpointConfigName"])}

    def _delete_config(self, body: Body) -> Body:
        self._config(body["EndpointConfigName"])
        del self.configs[body["EndpointConfigName"]]
        return {}

    def _create(self, body: Body) -> Body:
        name = body["EndpointName"]
        config = self._config(body["EndpointConfigName"])
        with self._lock:
            if name in self.endpoints:
                raise Refusal(
                    "ValidationException",
                    f'Cannot create already existing endpoint "{self._endpoint_arn(name)}".',
                )
            endpoint = Endpoint(name, self._endpoint_arn(name), self._start, self._logs)
            self.endpoints[name] = endpoint
            endpoint.take(config)
        return {"EndpointArn": endpoint.arn}

    def _update(self, body: Body) -> Body:
        config = self._config(body["EndpointConfigName"])
        with self._lock:
            endpoint = self._find(body)
            self._refuse_busy(endpoint)
            if endpoint.status == FAILED:
                raise Refusal(
                    "ValidationException", f'Cannot update failed endpoint "{endpoint.arn}".'
                )
            endpoint.take(config)
        return {"EndpointArn": endpoint.arn}

    def _end(self, endpoint: Endpoint) -> None:
        endpoint.close()
        with self._lock:
            del self.endpoints[endpoint.name]

    def _refuse_busy(self, endpoint: Endpoint) -> None:
        if endpoint.status not in (IN_SERVICE, FAILED):
            raise Refusal(
                "ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".'
            )

    def _find(self, body: Mapping[str, Any]) -> Endpoint:
        name = body["EndpointName"]
        if name not in self.endpoints:
            raise Refusal(
                "ValidationException", f'Could not find endpoint "{self._endpoint_arn(name)}".'
            )
        return self.endpoints[name]

    def _config(self, name: str) -> Body:
        if name not in self.configs:
            raise Refusal(
                "ValidationException",
                f'Could not find endpoint configuration "{self._config_arn(name)}".',
            )
        return self.configs[name]

    def _config_summary(self, config: Body) -> Body:
        return {
            "EndpointConfigName": config["EndpointConfigName"],
            "EndpointConfigArn": self._config_arn(config["EndpointConfigName"]),
            "CreationTime": config["CreationTime"],
        }

    def _endpoint_arn(self, name: str) -> str:
        return f"{self._arn}:endpoint/{name}"

    def _config_arn(self, name: str) -> str:
        return f"{self._arn}:endpoint-config/{name}"

"""The SageMaker API of the rehearsal: the operations that training and tuning need, executed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sagelight.cloud.contract import violations
from sagelight.rehearsal.hosting import Hosting
from sagelight.rehearsal.processing import Processing
from sagelight.rehearsal.refusal import Body, Refusal
from sagelight.rehearsal.training import TrainingJob
from sagelight.rehearsal.transforming import Transforming
from sagelight.rehearsal.tuning import TuningJob


@dataclass
class SageMaker:
    """All jobs of one rehearsal.

    Attributes:
        clients: `s3` and `logs` of the rehearsal.
        environment: what jobs need to reach the rehearsal only.
        quota: training jobs that may run at once.
        tags: of everything that was created, by ARN.
    """

    region: str
    account: str
    clients: Any
    environment: Mapping[str, str]
    quota: int = 100
    training: dict[str, TrainingJob] = field(default_factory=dict)
    tuning: dict[str, TuningJob] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        place = (self.region, self.account, self.clients, self.environment)
        self.hosting = Hosting(*place)
        self.transforming = Transforming(*place, self.hosting)
        self.processing = Processing(
            self.region,
            self.account,
            self.clients,
            self.hosting.models,
            self.hosting.endpoints.endpoints,
        )

    def call(self, operation: str, body: Body) -> Body:
        """Answer one operation.

        Raises:
            Refusal: what the service would answer with an error.
        """
        handler = self._operations().get(operation)
        if handler is None:
            raise Refusal("UnknownOperationException", f"the rehearsal has no {operation}")
        found = violations(operation, body)
        if found:
            raise Refusal(
                "ValidationException",
                f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected: {'; '.join(found)}",
            )
        answer = handler(body)
        if operation.startswith("Create"):
            self._tag(answer, body)
        return answer

    def close(self) -> None:
        """Stop whatever still runs, and wait for it."""
        self.transforming.close()
        self.hosting.close()
        for study in self.tuning.values():
            study.stop()
        for job in self.training.values():
            job.stop()
        for study in self.tuning.values():
            study.thread.join()
        for job in self.training.values():
            job.thread.join()

    def _operations(self) -> dict[str, Callable[[Body], Body]]:
        return {
            "CreateTrainingJob": self._create_training,
            "DescribeTrainingJob": lambda body: self._training(body).describe(),
            "StopTrainingJob": self._stop_training,
            "ListTrainingJobs": lambda _: {
                "TrainingJobSummaries": [job.summary() for job in reversed(self.training.values())]
            },
            "CreateHyperParameterTuningJob": self._create_tuning,
            "DescribeHyperParameterTuningJob": lambda body: self._tuning(body).describe(),
            "StopHyperParameterTuningJob": self._stop_tuning,
            "ListHyperParameterTuningJobs": lambda _: {
                "HyperParameterTuningJobSummaries": [
                    study.entry() for study in list(self.tuning.values())
                ]
            },
            "ListTags": lambda body: {"Tags": _as_list(self.tags.get(body["ResourceArn"], {}))},
            "AddTags": self._add_tags,
            "DeleteTags": self._delete_tags,
            "ListTrainingJobsForHyperParameterTuningJob": self._list_trials,
            **self.hosting.operations(),
            **self.transforming.operations(),
            **self.processing.operations(),
        }

    def _tag(self, answer: Body, body: Body) -> None:
        arn = next(str(value) for key, value in answer.items() if key.endswith("Arn"))
        self.tags[arn] = {tag["Key"]: tag["Value"] for tag in body.get("Tags", ())}

    def _add_tags(self, body: Body) -> Body:
        tags = self.tags.setdefault(body["ResourceArn"], {})
        tags |= {tag["Key"]: tag["Value"] for tag in body["Tags"]}
        return {"Tags": _as_list(tags)}

    def _delete_tags(self, body: Body) -> Body:
        for key in body["TagKeys"]:
            self.tags.get(body["ResourceArn"], {}).pop(key, None)
        return {}

    def _create_training(self, body: Body) -> Body:
        return {"TrainingJobArn": self._launch(body).arn}

    def _launch(self, body: Body, sharing: int = 1) -> TrainingJob:
        """Start a training job; `sharing` of them share this machine's cores, which AWS's would not."""
        threads = str(max(1, (os.cpu_count() or 1) // sharing))
        share = {"OMP_NUM_THREADS": threads} if sharing > 1 else {}
        environment = {**self.environment, **share}
        job = TrainingJob(body, self.region, self.account, self.clients, environment)
        with self._lock:
            self._refuse_twin(job.name, self.training, "Training job")
            running = sum(not each.done for each in self.training.values())
            if running >= self.quota:
                raise Refusal(
                    "ResourceLimitExceeded",
                    f"The account-level service limit '{body['ResourceConfig']['InstanceType']} for training job usage' "
                    f"is {self.quota} Instances, with current utilization of {running} Instances",
                )
            self.training[job.name] = job
        job.start()
        return job

    def _create_tuning(self, body: Body) -> Body:
        study = TuningJob(body, self.region, self.account, self._launch)
        with self._lock:
            self._refuse_twin(study.name, self.tuning, "Hyperparameter tuning job")
            self.tuning[study.name] = study
        study.start()
        return {"HyperParameterTuningJobArn": study.arn}

    def _stop_training(self, body: Body) -> Body:
        self._training(body).stop()
        return {}

    def _stop_tuning(self, body: Body) -> Body:
        self._tuning(body).stop()
        return {}

    def _list_trials(self, body: Body) -> Body:
        study = self._tuning(body)
        return {
            "TrainingJobSummaries": [study.summary(job, values) for job, values in study.trials]
        }

    def _training(self, body: Body) -> TrainingJob:
        job = self.training.get(body["TrainingJobName"])
        if job is None:
            raise Refusal("ValidationException", "Requested resource not found.")
        return job

    def _tuning(self, body: Body) -> TuningJob:
        name = body["HyperParameterTuningJobName"]
        if name not in self.tuning:
            raise Refusal(
                "ResourceNotFound",
                f"Amazon SageMaker can't find a tuning job with the name {name}.",
            )
        return self.tuning[name]

    def _refuse_twin(self, name: str, known: Mapping[str, Any], what: str) -> None:
        if name in known:
            raise Refusal("ResourceInUse", f"{what} names must be unique: {name} exists already")


def _as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]

"""A tuning job of the rehearsal: it chooses values, starts real training jobs, and reads their objective.

Bayesian and Hyperband choose as Random does here: the service's own methods are not public. Grid is exact.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from sagelight.rehearsal.training import TrainingJob
from sagelight.tuning.stopping import falls_behind, without_improvement

POLL_SECONDS = 0.1


class TuningJob:
    """One study. Trials run at most `MaxParallelTrainingJobs` at a time."""

    def __init__(
        self,
        request: Mapping[str, Any],
        region: str,
        account: str,
        launch: Callable[[dict[str, Any], int], TrainingJob],
    ) -> None:
        self.request = request
        self.name = str(request["HyperParameterTuningJobName"])
        self.arn = f"arn:aws:sagemaker:{region}:{account}:hyper-parameter-tuning-job/{self.name}"
        self.status = "InProgress"
        self.reason: str | None = None
        self.created = time.time()
        self.ended: float | None = None
        self.trials: list[tuple[TrainingJob, dict[str, str]]] = []
        self._launch = launch
        self._config = request["HyperParameterTuningJobConfig"]
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin to run; returns at once."""
        self.thread.start()

    def stop(self) -> None:
        """StopHyperParameterTuningJob: no more trials, and the running ones are stopped."""
        if self.status == "InProgress":
            self.status = "Stopping"
        self._stop.set()

    @property
    def done(self) -> bool:
        """Whether nothing changes any more."""
        return self.status in ("Completed", "Failed", "Stopped")

    def objective(self, job: TrainingJob) -> float | None:
        """The latest objective that a trial has printed: the service looks at the latest, not at the best."""
        found = job.metrics.get(self._config["HyperParameterTuningJobObjective"]["MetricName"])
        return found[0] if found else None

    def best(self) -> tuple[TrainingJob, dict[str, str]] | None:
        """The completed trial with the best objective."""
        scored = [
            (self.objective(job), job, values)
            for job, values in self.trials
            if job.status == "Completed"
        ]
        scored = [row for row in scored if row[0] is not None]
        if not scored:
            return None
        sign = self._sign()
        _, job, values = max(scored, key=lambda row: sign * (row[0] or 0.0))
        return job, values

    def _run(self) -> None:
        choices = self._choices()
        parallel = self._config["ResourceLimits"]["MaxParallelTrainingJobs"]
        exhausted = False
        while True:
            running = [job for job, _ in self.trials if not job.done]
            if self._stop.is_set():
                for job in running:
                    job.stop()
            self._stop_weak(running)
            ending = exhausted or self._stop.is_set() or self._criteria_met()
            while not ending and len(running) < parallel:
                values = next(choices, None)
                if values is None:
                    exhausted = ending = True
                    break
                running.append(self._start_trial(values))
            if ending and not running:
                break
            time.sleep(POLL_SECONDS)
        self._settle()

    def _start_trial(self, values: dict[str, str]) -> TrainingJob:
        definition = dict(self.request["TrainingJobDefinition"])
        static = definition.pop("StaticHyperParameters", {})
        objective = self._config["HyperParameterTuningJobObjective"]["MetricName"]
        number = len(self.trials) + 1
        job = self._launch(
            {
                **definition,
                "TrainingJobName": f"{self.name}-{number:03d}-{uuid4().hex[:8]}",
                "HyperParameters": {**static, **values, "_tuning_objective_metric": objective},
            },
            self._config["ResourceLimits"]["MaxParallelTrainingJobs"],
        )
        self.trials.append((job, values))
        return job

    def _stop_weak(self, running: list[TrainingJob]) -> None:
        if self._config.get("TrainingJobEarlyStoppingType") != "Auto":
            return
        finished = [self._scores(job) for job, _ in self.trials if job.status == "Completed"]
        for job in running:
            if job.status == "InProgress" and falls_behind(self._scores(job), finished):
                job.stop()

    def _scores(self, job: TrainingJob) -> list[float]:
        name = self._config["HyperParameterTuningJobObjective"]["MetricName"]
        return [self._sign() * value for value in job.series.get(name, ())]

    def _settle(self) -> None:
        self.ended = time.time()
        if self._stop.is_set():
            self.status = "Stopped"
        elif any(
            job.status == "Completed" and self.objective(job) is not None for job, _ in self.trials
        ):
            self.status = "Completed"
        else:
            failed = all(job.status == "Failed" for job, _ in self.trials)
            self.reason = (
                "All training jobs failed. Please take a look at the training jobs failures to get more details."
                if failed
                else "No objective metrics found after running the training jobs."
            )
            self.status = "Failed"

    def _criteria_met(self) -> bool:
        criteria = self._config.get("TuningJobCompletionCriteria", {})
        sign = self._sign()
        scores = [
            sign * score
            for job, _ in self.trials
            if job.status == "Completed" and (score := self.objective(job)) is not None
        ]
        target = criteria.get("TargetObjectiveMetricValue")
        if target is not None and any(score >= sign * target for score in scores):
            return True
        patience = criteria.get("BestObjectiveNotImproving", {}).get(
            "MaxNumberOfTrainingJobsNotImproving"
        )
        return patience is not None and without_improvement(scores) >= patience

    def _sign(self) -> float:
        return (
            1.0 if self._config["HyperParameterTuningJobObjective"]["Type"] == "Maximize" else -1.0
        )

    def _choices(self) -> Iterator[dict[str, str]]:
        ranges = self._config["ParameterRanges"]
        if self._config["Strategy"] == "Grid":
            categorical = ranges["CategoricalParameterRanges"]
            names = [each["Name"] for each in categorical]
            for values in itertools.product(*(each["Values"] for each in categorical)):
                yield dict(zip(names, values, strict=True))
            return
        chance = random.Random(self._config.get("RandomSeed", self.name))
        for _ in range(self._config["ResourceLimits"]["MaxNumberOfTrainingJobs"]):
            yield sample(ranges, chance)

    def counters(self) -> dict[str, int]:
        """TrainingJobStatusCounters."""
        states = [job.status for job, _ in self.trials]
        return {
            "Completed": states.count("Completed"),
            "InProgress": sum(state in ("InProgress", "Stopping") for state in states),
            "RetryableError": 0,
            "NonRetryableError": states.count("Failed"),
            "Stopped": states.count("Stopped"),
        }

    def describe(self) -> dict[str, Any]:
        """DescribeHyperParameterTuningJob."""
        best = self.best()
        found = {
            **self.request,
            "HyperParameterTuningJobArn": self.arn,
            "HyperParameterTuningJobStatus": self.status,
            "CreationTime": self.created,
            "HyperParameterTuningEndTime": self.ended,
            "LastModifiedTime": self.ended or time.time(),
            "TrainingJobStatusCounters": self.counters(),
            "ObjectiveStatusCounters": self._objective_counters(),
            "BestTrainingJob": self.summary(*best) if best else None,
            "FailureReason": self.reason,
        }
        return {key: value for key, value in found.items() if value is not None}

    def entry(self) -> dict[str, Any]:
        """An entry of ListHyperParameterTuningJobs."""
        return {
            "HyperParameterTuningJobName": self.name,
            "HyperParameterTuningJobArn": self.arn,
            "HyperParameterTuningJobStatus": self.status,
            "Strategy": self._config["Strategy"],
            "CreationTime": self.created,
            "TrainingJobStatusCounters": self.counters(),
            "ObjectiveStatusCounters": self._objective_counters(),
        }

    def summary(self, job: TrainingJob, values: dict[str, str]) -> dict[str, Any]:
        """An entry of ListTrainingJobsForHyperParameterTuningJob."""
        objective, score = self._config["HyperParameterTuningJobObjective"], self.objective(job)
        found: dict[str, Any] = {
            "TrainingJobName": job.name,
            "TrainingJobArn": job.arn,
            "TuningJobName": self.name,
            "CreationTime": job.created,
            "TrainingStartTime": job.started,
            "TrainingEndTime": job.ended,
            "TrainingJobStatus": job.status,
            "TunedHyperParameters": values,
            "FailureReason": job.reason,
            "ObjectiveStatus": "Pending"
            if not job.done
            else "Succeeded"
            if score is not None
            else "Failed",
        }
        if score is not None:
            found["FinalHyperParameterTuningJobObjectiveMetric"] = {**objective, "Value": score}
        return {key: value for key, value in found.items() if value is not None}

    def _objective_counters(self) -> dict[str, int]:
        done = [job for job, _ in self.trials if job.done]
        scored = sum(self.objective(job) is not None for job in done)
        return {
            "Succeeded": scored,
            "Pending": len(self.trials) - len(done),
            "Failed": len(done) - scored,
        }


def sample(ranges: Mapping[str, Any], chance: random.Random) -> dict[str, str]:
    """One value of every range, as the text that the service hands to a training job."""
    found: dict[str, str] = {}
    for each in ranges.get("ContinuousParameterRanges", ()):
        found[each["Name"]] = repr(_number(each, chance))
    for each in ranges.get("IntegerParameterRanges", ()):
        low, high = int(each["MinValue"]), int(each["MaxValue"])
        # Half a step beyond both ends, so that rounding gives every number its share.
        drawn = _number({**each, "MinValue": low - 0.5, "MaxValue": high + 0.5}, chance)
        found[each["Name"]] = str(min(high, max(low, round(drawn))))
    for each in ranges.get("CategoricalParameterRanges", ()):
        found[each["Name"]] = chance.choice(each["Values"])
    return found


def _number(limits: Mapping[str, Any], chance: random.Random) -> float:
    low, high = float(limits["MinValue"]), float(limits["MaxValue"])
    scale = limits.get("ScalingType", "Auto")
    if scale == "Logarithmic":
        drawn = math.exp(chance.uniform(math.log(low), math.log(high)))
    elif scale == "ReverseLogarithmic":
        drawn = 1 - math.exp(chance.uniform(math.log(1 - high), math.log(1 - low)))
    else:
        drawn = chance.uniform(low, high)
    return min(high, max(low, drawn))

"""The verb `train` at SageMaker: plan, show, send, follow, fetch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sagelight.cli import refuse_flags
from sagelight.cloud.client import Aws
from sagelight.cloud.follow import TRAINING, JobState, follow
from sagelight.cloud.plan import Plan, make_plan
from sagelight.cloud.results import (
    best_overrides,
    fetch_results,
    trials,
    write_study,
)
from sagelight.cloud.settings import CloudSettings
from sagelight.cloud.show import described, listed_problems, request_json
from sagelight.cloud.starting import going_on
from sagelight.cloud.submit import send
from sagelight.config.setting import AUTO
from sagelight.errors import CloudError, ConfigError, Interrupted
from sagelight.training.command import closing
from sagelight.training.run import FINISHED
from sagelight.tuning.study import MULTIRUN, Study, maximizes, read_study
from sagelight.tuning.trials import Trial, best_trial, read_trials, table, write_best

DRY_RUN = {"dry_run=true": True, "dry_run=false": False}
# Those who share an account at AWS share the questions that it allows a second; a rehearsal is asked by one.
SECONDS_BETWEEN_LOOKS = {"aws": 2.0, "rehearsal": 0.2}


def train_in_cloud(words: list[str]) -> None:
    """Train, or tune, as SageMaker jobs; with `dry_run=true` only say what would be sent.

    Raises:
        CloudError: everything that is wrong with the job, in one list, or what AWS refuses.
        Interrupted: on Ctrl-C while a job runs; it goes on.
    """
    dry, words = _take_dry_run(words)
    refuse_flags([word for word in words if word not in MULTIRUN])
    study = read_study(words)
    if not dry and _starts_rehearsal(study.config.cloud):
        from sagelight.rehearsal.program import load_programs

        load_programs()
    plan = make_plan(study)
    print(described(plan))
    if dry:
        print(request_json(plan))
        for note in plan.assumed:
            print(f"note: {note}")
    if plan.problems:
        raise CloudError(listed_problems(plan.problems))
    if dry:
        return
    if plan.assumed:
        raise CloudError(plan.assumed[0])
    with backend(study.config.cloud) as cloud:
        try:
            _run(Aws(cloud, plan.place.region), plan, _folder(plan))
        except Interrupted as stop:
            if cloud is study.config.cloud:
                raise
            raise Interrupted(
                "the rehearsal is over, and its jobs with it. "
                "python launch/rehearsal.py is one that stays while its jobs run."
            ) from stop


def _folder(plan: Plan) -> Path:
    config = plan.study.config
    if config.run_dir != AUTO:
        return Path(config.run_dir)
    return Path("runs") / config.name / plan.request.name


@contextmanager
def backend(cloud: CloudSettings) -> Iterator[CloudSettings]:
    """Where the API answers: AWS, or a rehearsal that lives as long as the block."""
    if not _starts_rehearsal(cloud):
        yield cloud
        return
    from sagelight.rehearsal.server import rehearsal

    with rehearsal() as running:
        yield replace(cloud, endpoint_url=running.url)


def _starts_rehearsal(cloud: CloudSettings) -> bool:
    return cloud.name == "rehearsal" and not cloud.endpoint_url


def _run(aws: Aws, plan: Plan, folder: Path) -> None:
    cloud, name = plan.study.config.cloud, plan.request.name
    send(aws, plan)
    if not cloud.follow:
        print(f"started {name}. {_come_back(name)}")
        return
    state = _followed(aws, name, cloud)
    if plan.study_inside:
        _close_inner_study(aws, state, plan, folder)
        return
    if state.kind == TRAINING:
        _close_training(aws, state, folder, cloud.attempt + 1)
        return
    _close_study(aws, state, plan, folder)
    if plan.study.config.hpo.retrain:
        again = make_plan(_retraining(plan.study, best_overrides(state)))
        print(described(again))
        _run(aws, again, folder / "retrained")


def _close_study(aws: Aws, state: JobState, plan: Plan, folder: Path) -> None:
    rows = trials(aws, state.name)
    print(table(rows))
    write_study(state, rows, folder, list(plan.study.fixed))
    _report(plan, rows, folder)
    print(f"trials  {folder / 'trials.csv'}\nreport  {folder / 'report.html'}")
    _refuse_failed(state, _first_failure(rows))
    print(f"best    {' '.join(best_overrides(state))}\n        {folder / 'best.yaml'}")


def _report(plan: Plan, rows: Sequence[Trial], folder: Path) -> None:
    from sagelight.reporting.study import StudyFacts, write_study_report

    hpo = plan.study.config.hpo
    facts = StudyFacts(
        plan.request.name, hpo.metric, maximizes(hpo), hpo.strategy, plan.study.space
    )
    write_study_report(folder, facts, rows)


def _close_inner_study(aws: Aws, state: JobState, plan: Plan, folder: Path) -> None:
    """Fetch what a study inside one job has left; its best.yaml is written anew, with the paths of this machine."""
    again = f"cloud.attempt={plan.study.config.cloud.attempt + 1}"
    _refuse_failed(state, f"The whole log: logs job={state.name}. {again} goes on with the study.")
    if state.status == "Stopped":
        print(f"{state.name} was stopped ({state.doing}); {again} goes on with its study")
        return
    fetch_results(aws, state, folder)
    rows = read_trials(folder)
    print(table(rows))
    print(f"trials  {folder / 'trials.csv'}\nreport  {folder / 'report.html'}")
    best = best_trial(rows, maximizes(plan.study.config.hpo))
    if best is not None:
        file = write_best(best, plan.study.fixed, state.name, folder)
        print(f"best    {' '.join(f'{k}={v}' for k, v in best.values.items())}\n        {file}")
    _close_retrained(folder)


def _close_retrained(folder: Path) -> None:
    """The bundle of a job is that of the training that came after its study."""
    bundle, retrained = folder / "bundle", folder / "retrained"
    if not any(bundle.iterdir()):
        bundle.rmdir()
        return
    shutil.move(bundle, retrained / "bundle")
    metrics = json.loads((retrained / FINISHED).read_text(encoding="utf-8"))
    print(closing(retrained, metrics))


def _first_failure(rows: Sequence[Trial]) -> str:
    failed = next((row for row in rows if row.reason), None)
    if failed is None:
        return ""
    return (
        f"The first trial said: {failed.reason.rstrip('.')}. The whole log: logs job={failed.name}."
    )


def _retraining(study: Study, chosen: list[str]) -> Study:
    """One training with the best trial's values, chosen by the same metric."""
    kept = [text for text in study.fixed if not text.startswith("hpo=")]
    return read_study([*kept, f"hpo.metric={study.config.hpo.metric}", *chosen])


def _close_training(aws: Aws, state: JobState, folder: Path, next_attempt: int) -> None:
    again = f"cloud.attempt={next_attempt}"
    _refuse_failed(state, f"The whole log: logs job={state.name}. {again} starts it again.")
    if state.status == "Stopped":
        print(f"{state.name} was stopped ({state.doing}); {again} continues from its checkpoint")
        return
    fetch_results(aws, state, folder)
    metrics = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
    print(closing(folder, metrics))


def _refuse_failed(state: JobState, advice: str) -> None:
    if state.status == "Failed":
        reason = state.reason.rstrip(".") or "no reason was given"
        raise CloudError(f"{state.name} failed: {reason}. {advice}".strip())


def _followed(aws: Aws, name: str, cloud: CloudSettings) -> JobState:
    try:
        with going_on(name, cloud.name == "aws", _come_back(name)):
            return follow(aws, name, SECONDS_BETWEEN_LOOKS[cloud.name])
    except KeyboardInterrupt as stop:
        raise Interrupted(f"{name} goes on. {_come_back(name)}") from stop


def _come_back(name: str) -> str:
    door = "python launch/sagemaker.py"
    return (
        f"Repeat the same command to follow it again, or type {door} status job={name} "
        f"(logs, stop, fetch)."
    )


def _take_dry_run(words: list[str]) -> tuple[bool, list[str]]:
    for word in words:
        if word.startswith("dry_run=") and word not in DRY_RUN:
            raise ConfigError(f"{word}: must be dry_run=true or dry_run=false.")
    asked = any(DRY_RUN.get(word, False) for word in words)
    return asked, [word for word in words if word not in DRY_RUN]

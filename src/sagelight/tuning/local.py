"""A study on this machine: what `hpo=true` means for launch/local.py."""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sagelight.config.compose import compose
from sagelight.config.grammar import hydra_text
from sagelight.config.schema import Config
from sagelight.config.setting import AUTO
from sagelight.cores import usable_cores
from sagelight.data.prepare import open_index
from sagelight.errors import ConfigError, RunError, SagelightError
from sagelight.features.batching import batch_of, trains_in_batches
from sagelight.processes import is_member
from sagelight.training.run import locked
from sagelight.training.together import asks_several
from sagelight.tuning.pool import (
    Computed,
    Died,
    Doing,
    Ended,
    Epoch,
    Message,
    Pool,
    Task,
    Worker,
)
from sagelight.tuning.proposals import Proposal, Proposals
from sagelight.tuning.rules import grid_problems, hyperband_problems
from sagelight.tuning.stopping import falls_behind, without_improvement
from sagelight.tuning.study import Study
from sagelight.tuning.trials import Trial, best_trial, of_study, write_best, write_trials
from sagelight.tuning.view import StudyView

# A bayesian study of batched heads draws so many before it looks at what came of them.
FIRST_DRAW, NEXT_DRAW = 10, 5
# A trial whose process is killed this often is the killer.
MOST_DEATHS = 3
_SECONDS = 0.5


@dataclass(frozen=True)
class StudyOutcome:
    """What a study came to.

    Attributes:
        best: the completed trial with the best objective, and `best_file` an experiment file that trains it again;
            None where every trial was stopped early.
        photos: how many went through a frozen backbone this time.
    """

    folder: Path
    trials: list[Trial]
    best: Trial | None
    best_file: Path | None
    photos: int


def run_study(study: Study, scratch: Path | None = None) -> StudyOutcome:
    """Run a study to its end, or go on with the one that was interrupted.

    Args:
        scratch: where its database lies meanwhile, if not in the study's folder; see `Proposals`.

    Raises:
        RunError: the study's folder is another's, or another process is writing it; or all trials failed.
        SagelightError: what one training would be refused for.
        KeyboardInterrupt: on Ctrl-C; what is finished is kept, and the same command goes on.
    """
    _refuse(study)
    index = open_index(study.config.data)
    folder = study_folder(study, index.fingerprint)
    with locked(folder):
        engine = _Engine(study, folder, Proposals(study, folder, index.fingerprint, scratch))
        try:
            engine.run()
        finally:
            engine.close()
        return engine.outcome()


def _refuse(study: Study) -> None:
    hpo = study.config.hpo
    if is_member():
        raise ConfigError(
            "torchrun starts the processes of one training, and a study starts those of its trials itself. "
            "Type the same command without torchrun, with trainer=ddp for trials of several processes."
        )
    if hpo.backend in ("job", "tuner"):
        raise ConfigError(
            f"hpo.backend={hpo.backend} is for SageMaker. Type python launch/sagemaker.py, or hpo.backend=local."
        )
    problems = [*hyperband_problems(study), *grid_problems(study)]
    if hpo.warm_start:
        problems.append("hpo.warm_start names tuning jobs of SageMaker. Leave it out")
    if problems:
        raise ConfigError(f"{problems[0]}.")


def study_folder(study: Study, fingerprint: str) -> Path:
    """`run_dir`, or a folder named by what the study is, so that the same command finds it again."""
    config = study.config
    if config.run_dir != AUTO:
        return Path(config.run_dir)
    # More trials of the same study are the same study.
    fixed = [text for text in study.fixed if not of_study(text) or "hpo.strategy" in text]
    text = repr((study.space, fixed, fingerprint))
    return Path("runs") / config.name / f"study-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


@dataclass
class _Running:
    proposal: Proposal
    overrides: tuple[str, ...]
    config: Config
    folder: Path
    seconds: float = 0.0
    curve: list[float] = field(default_factory=list)
    stopped: bool = False


class _Engine:
    def __init__(self, study: Study, folder: Path, proposals: Proposals) -> None:
        self._study = study
        self._hpo = study.config.hpo
        self._folder = folder
        self._proposals = proposals
        self._sign = 1.0 if proposals.maximize else -1.0
        self._pool = Pool()
        self._running: dict[int, _Running] = {}
        self._waiting: list[Task] = []
        self._deaths: dict[str, int] = {}
        self._prepared = False
        self._photos = 0
        # Looked at when a trial ends, not with every message: whether a study has converged takes seconds.
        self._enough = self._criteria_met()
        self._began = time.monotonic()
        self._view = StudyView(study, folder, proposals.budget, proposals.maximize)

    def run(self) -> None:
        with self._view:
            while self._fill():
                for worker, message in self._pool.messages(_SECONDS):
                    self._hear(worker, message)
                self._view.show(self._proposals.trials(), self._names_waiting())

    def close(self) -> None:
        self._pool.close()
        write_trials(self._proposals.trials(), self._folder)

    def outcome(self) -> StudyOutcome:
        trials = self._proposals.trials()
        if trials and all(trial.state == "Failed" for trial in trials):
            raise RunError(
                f"all {len(trials)} trials failed; the first said: {trials[0].reason.rstrip('.')}. "
                f"What they printed lies in {self._folder / 'logs'}."
            )
        self._report(trials)
        best = best_trial(trials, self._proposals.maximize)
        file = (
            write_best(best, self._study.fixed, self._folder.name, self._folder) if best else None
        )
        return StudyOutcome(self._folder, trials, best, file, self._photos)

    def _report(self, trials: list[Trial]) -> None:
        from sagelight.reporting.study import StudyFacts, write_study_report

        hpo = self._hpo
        notes: tuple[str, ...] = ()
        if self._photos:
            notes = (f"{self._photos:,} photos went through the backbone, once for all trials.",)
        facts = StudyFacts(
            self._folder.name,
            hpo.metric,
            self._proposals.maximize,
            hpo.strategy,
            self._study.space,
            notes,
        )
        write_study_report(self._folder, facts, trials)

    def _fill(self) -> bool:
        """Keep the pool busy; False when nothing runs and nothing is left to try."""
        if self._over():
            self._withdraw_waiting()
        while len(self._pool.workers) < self._slots():
            if not self._waiting and not self._ended():
                self._draw()
            if not self._waiting:
                break
            self._pool.start(self._waiting.pop(0))
        return bool(self._pool.workers)

    def _slots(self) -> int:
        computing = any(worker.task.kind == "features" for worker in self._pool.workers)
        # The processes of one trial take every GPU, or the cores.
        several = any(asks_several(trial.config) for trial in self._running.values())
        return 1 if computing or several else self._hpo.max_parallel_jobs

    def _ended(self) -> bool:
        return self._proposals.remaining() == 0 or self._over()

    def _over(self) -> bool:
        limit = self._hpo.max_study_seconds
        late = limit is not None and time.monotonic() - self._began > limit
        return late or self._enough

    def _withdraw_waiting(self) -> None:
        for task in self._waiting:
            for number, _ in task.trials:
                if self._running.pop(number, None) is not None:
                    self._proposals.withdraw(number)
        self._waiting.clear()

    def _names_waiting(self) -> set[str]:
        numbers = [number for task in self._waiting for number, _ in task.trials]
        return {str(self._running[n].proposal.place + 1) for n in numbers if n in self._running}

    def _criteria_met(self) -> bool:
        scores = [
            self._sign * trial.objective
            for trial in self._proposals.trials()
            if trial.state == "Completed" and trial.objective is not None
        ]
        target, patience = self._hpo.target, self._hpo.patience
        if target is not None and any(score >= self._sign * target for score in scores):
            return True
        if patience is not None and without_improvement(scores) >= patience:
            return True
        return self._hpo.until_converged and self._proposals.converged()

    def _draw(self) -> None:
        """Ask for as many trials as are of use now, and make tasks of them."""
        trials = self._ask()
        if trials and trains_in_batches(trials[0].config):
            width = self._width()
            while len(trials) < width and self._proposals.remaining():
                trials += self._ask()
        batches: dict[str, list[_Running]] = {}
        for trial in trials:
            if trains_in_batches(trial.config):
                batches.setdefault(batch_of(trial.config), []).append(trial)
            else:
                self._waiting.append(self._task("fit", [trial]))
        if batches and not self._prepared:
            # With all cores, before the heads share them.
            self._prepared = True
            self._waiting.insert(0, self._task("features", next(iter(batches.values()))[:1]))
        self._waiting += [self._task("heads", batch) for batch in batches.values()]

    def _ask(self) -> list[_Running]:
        """The next trial; none where its values are refused, which is then told."""
        proposal = self._proposals.ask()
        # A trial that is tried again goes on from its checkpoint, so the folder is named by its values.
        identity = hashlib.sha256(repr(proposal.values).encode()).hexdigest()[:10]
        folder = self._folder / "trials" / f"{proposal.place + 1}-{identity}"
        where = f"run_dir={hydra_text(str(folder))}"
        words = (*self._study.trial(proposal.values), where, "resume=auto")
        try:
            running = _Running(proposal, words, compose(words), folder)
        except SagelightError as error:
            self._proposals.fail(proposal.number, str(error), 0.0)
            return []
        self._running[proposal.number] = running
        return [running]

    def _width(self) -> int:
        hpo = self._hpo
        looks_back = (
            hpo.target is not None or hpo.patience or hpo.until_converged or hpo.max_study_seconds
        )
        if hpo.strategy != "bayesian" and not looks_back:
            return self._proposals.budget
        return FIRST_DRAW if len(self._proposals.trials()) <= FIRST_DRAW else NEXT_DRAW

    def _task(self, kind: Literal["features", "heads", "fit"], trials: list[_Running]) -> Task:
        shared = 1 if kind == "features" else self._hpo.max_parallel_jobs
        work = tuple((trial.proposal.number, trial.overrides) for trial in trials)
        return Task(kind, work, self._folder, max(1, usable_cores() // shared))

    def _hear(self, worker: Worker, message: Message) -> None:
        if isinstance(message, Computed):
            self._photos += message.photos
        elif isinstance(message, Epoch):
            worker.answer(self._epoch(message))
        elif isinstance(message, Ended):
            self._end(message.number, message.reason)
        elif isinstance(message, Doing):
            self._view.doing(message.label, message.done, message.total)
        else:
            self._bury(worker, message)

    def _epoch(self, epoch: Epoch) -> bool:
        running, objective = self._running[epoch.number], epoch.row.get("objective")
        running.seconds += epoch.row["seconds"]
        if objective is None:
            return False
        running.curve.append(objective)
        prune = self._proposals.report(epoch.number, int(epoch.row["epoch"]), objective)
        weak = prune or (self._hpo.early_stopping and self._behind(running))
        # A trial that has had all its epochs is complete.
        running.stopped = weak and epoch.row["epoch"] < running.config.trainer.max_epochs
        return running.stopped

    def _behind(self, running: _Running) -> bool:
        mine = [self._sign * value for value in running.curve]
        place = running.proposal.place
        others = [trial for trial in self._proposals.trials() if int(trial.name) - 1 < place]
        return falls_behind(mine, [[self._sign * v for v in trial.curve] for trial in others])

    def _end(self, number: int, reason: str) -> None:
        running = self._running.pop(number, None)
        if running is None:
            # Its process told of a fault after the trial's own end.
            return
        seconds = running.seconds
        if reason:
            self._proposals.fail(number, reason, seconds)
        elif running.stopped:
            self._proposals.stop(number, seconds)
        elif not running.curve:
            self._proposals.fail(number, f"{self._hpo.metric} was never measured", seconds)
        else:
            better = max if self._proposals.maximize else min
            self._proposals.complete(number, better(running.curve), seconds)
        self._enough = self._criteria_met()
        shutil.rmtree(running.folder, ignore_errors=True)
        write_trials(self._proposals.trials(), self._folder)

    def _bury(self, worker: Worker, died: Died) -> None:
        """Try what a dead process had not finished again, unless it has died of it before."""
        lost = [self._running[n] for n, _ in worker.task.trials if n in self._running]
        again = []
        for running in lost:
            key = f"{worker.task.kind} {running.proposal.values}"
            self._deaths[key] = self._deaths.get(key, 0) + 1
            if self._deaths[key] < MOST_DEATHS:
                running.curve.clear()
                running.seconds = 0.0
                again.append(running)
                continue
            how = f"its process was killed {MOST_DEATHS} times (exit code {died.exitcode}): out of memory?"
            if worker.task.kind == "features":
                raise RunError(f"the backbone could not be run over the photos: {how}")
            self._end(running.proposal.number, how)
        if again:
            self._waiting.insert(0, self._task(worker.task.kind, again))

"""What a study tries next, and what came of it: Optuna by ask and tell, kept in study.db."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sqlite3
import warnings
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sagelight.config.save import config_digest
from sagelight.errors import RunError, first_line
from sagelight.files import atomic
from sagelight.tuning.distributions import combinations, distributions, text_of
from sagelight.tuning.study import Study, maximizes
from sagelight.tuning.trials import State, Trial

if TYPE_CHECKING:
    import optuna

DATABASE = "study.db"
# Another layout of what is kept makes another number.
FORMAT = 1
# Optuna's name of a study inside its database.
_NAME = "sagelight"
_DIGEST, _VALUES, _REASON, _SECONDS, _LOST = "digest", "values", "reason", "seconds", "lost"
# A trial that is tried again, because its process died, keeps its place and gets a new number.
_PLACE = "place"


@dataclass(frozen=True)
class Proposal:
    """Values to try: Optuna's number of the trial, its place in the study from 0, and Hydra text by name."""

    number: int
    place: int
    values: dict[str, str]


class Proposals:
    """The trials of one study, in a database that only this process writes."""

    def __init__(
        self, study: Study, folder: Path, fingerprint: str, scratch: Path | None = None
    ) -> None:
        """Open the study of `folder`, or begin it; trials that were running when a process died are tried again.

        Args:
            fingerprint: of the photos; a study goes on with the same ones only.
            scratch: works on the database there, and leaves a whole copy of it in `folder` after each trial. For a
                folder that another program copies at any moment, as SageMaker does with checkpoints.

        Raises:
            RunError: Optuna is not installed, or the database is another study's, or no database.
        """
        self._optuna = _import_optuna()
        self._hpo = study.config.hpo
        self._space = study.space
        self._seed = study.config.seed
        self._epochs = study.config.trainer.max_epochs
        self.maximize = maximizes(study.config.hpo)
        self._kept = folder / DATABASE
        self._database = _working_copy(self._kept, scratch) if scratch else self._kept
        self._study = self._open(self._database, _digest(study, fingerprint))
        self._asked: dict[int, optuna.Trial] = {}
        self._reported: dict[int, int] = {}
        self._ended: dict[int, Trial] = {}
        self._combinations = combinations(self._space) if self._hpo.strategy == "grid" else []
        self._requeue_lost()

    def remaining(self) -> int:
        """Trials that may still begin."""
        return max(0, self.budget - sum(not _lost(t) for t in self._frozen()))

    @property
    def budget(self) -> int:
        """Trials of the whole study; a grid has as many as there are combinations."""
        return len(self._combinations) if self._hpo.strategy == "grid" else self._hpo.max_jobs

    def ask(self) -> Proposal:
        """The next values. The same seed and the same results so far give the same ones."""
        place = self._free_place()
        if self._hpo.strategy == "grid" and not self._has_waiting():
            # One at a time: to queue 10,000 would take a minute.
            self._study.enqueue_trial(self._combinations[place], {_PLACE: place})
        self._study.sampler = self._sampler(place)
        trial = self._study.ask(distributions(self._optuna, self._space))
        place = trial.user_attrs.get(_PLACE, place)
        trial.set_user_attr(_PLACE, place)
        values = {d.name: text_of(d, trial.params) for d in self._space.dimensions}
        trial.set_user_attr(_VALUES, values)
        self._asked[trial.number] = trial
        return Proposal(trial.number, place, values)

    def report(self, number: int, epoch: int, objective: float) -> bool:
        """Keep the objective of an epoch, from 1; True when hyperband ends the trial here."""
        trial = self._asked[number]
        # A trial whose process was killed tells its first epochs again.
        if epoch > self._reported.get(number, 0):
            trial.report(objective, epoch)
            self._reported[number] = epoch
        return bool(self._hpo.strategy == "hyperband" and trial.should_prune())

    def complete(self, number: int, objective: float, seconds: float) -> None:
        """A trial has had all its epochs."""
        self._end(number, seconds, objective=objective)

    def stop(self, number: int, seconds: float) -> None:
        """A trial was ended early; its last reported objective counts as its own."""
        self._end(number, seconds, state=self._optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, reason: str, seconds: float) -> None:
        """A trial broke; the study goes on."""
        self._asked[number].set_user_attr(_REASON, reason)
        self._end(number, seconds, state=self._optuna.trial.TrialState.FAIL)

    def withdraw(self, number: int) -> None:
        """A trial that has been asked for is not tried after all."""
        self._give_up(self._asked.pop(number))

    def trials(self) -> list[Trial]:
        """Every trial, in the order of their places."""
        found = [frozen for frozen in self._frozen() if not _lost(frozen) and _place(frozen) >= 0]
        return [self._trial(frozen) for frozen in sorted(found, key=_place)]

    def converged(self) -> bool:
        """Whether a better trial has become unlikely, by Optuna's regret bound; only asked with enough trials."""
        from optuna.terminator import EMMREvaluator, MedianErrorEvaluator, Terminator

        completed = [t for t in self._frozen() if t.state.name == "COMPLETE"]
        if len(completed) < 20:
            return False
        with warnings.catch_warnings():
            # Optuna calls its terminator experimental, and one of its own helpers deprecated.
            warnings.simplefilter("ignore")
            improvement = EMMREvaluator(seed=self._seed)
            terminator = Terminator(improvement, MedianErrorEvaluator(improvement))
            return bool(terminator.should_terminate(self._study))

    def _end(
        self, number: int, seconds: float, objective: float | None = None, state: Any = None
    ) -> None:
        trial = self._asked.pop(number)
        trial.set_user_attr(_SECONDS, seconds)
        self._study.tell(trial, objective, state)
        if self._database != self._kept:
            with closing(sqlite3.connect(self._database)) as database, atomic(self._kept) as file:
                file.write(database.serialize())

    def _frozen(self) -> list[optuna.trial.FrozenTrial]:
        return [t for t in self._study.get_trials(deepcopy=False) if t.state.name != "WAITING"]

    def _trial(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        # Asked after every message of a trial: what has ended is not read again.
        if frozen.number in self._ended:
            return self._ended[frozen.number]
        trial = self._read(frozen)
        if frozen.state.is_finished():
            self._ended[frozen.number] = trial
        return trial

    def _read(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        states: dict[str, State] = {"COMPLETE": "Completed", "PRUNED": "Stopped", "FAIL": "Failed"}
        curve = tuple(value for _, value in sorted(frozen.intermediate_values.items()))
        best = (max if self.maximize else min)(curve, default=None)
        return Trial(
            str(_place(frozen) + 1),
            states.get(frozen.state.name, "InProgress"),
            frozen.value if frozen.state.name == "COMPLETE" else best,
            dict(frozen.user_attrs.get(_VALUES, {})),
            frozen.user_attrs.get(_SECONDS),
            curve,
            frozen.user_attrs.get(_REASON, ""),
        )

    def _open(self, path: Path, digest: str) -> optuna.Study:
        if not path.exists():
            self._begin(path, digest)
        _refuse_foreign(path)
        try:
            study: optuna.Study = self._optuna.load_study(
                storage=self._optuna.storages.RDBStorage(f"sqlite:///{path}"),
                study_name=_NAME,
                pruner=self._pruner(),
            )
            known = study.user_attrs.get(_DIGEST)
        except Exception as error:  # SQLite, SQLAlchemy and Optuna each have their own.
            raise RunError(
                f"{path} is no study that can be read ({first_line(error)}). "
                "Type another run_dir; nothing in this one is changed."
            ) from error
        if known != digest:
            raise RunError(
                f"{path} is a study of another space, configuration or folder of photos, or of another version. "
                "Type another run_dir, or repeat that study's command."
            )
        return study

    def _begin(self, path: Path, digest: str) -> None:
        """Lay out a database that appears whole: Optuna's tables come one by one, and a kill may fall between them."""
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        storage = self._optuna.storages.RDBStorage(f"sqlite:///{fresh}")
        study = self._optuna.create_study(
            storage=storage,
            study_name=_NAME,
            direction="maximize" if self.maximize else "minimize",
        )
        study.set_user_attr(_DIGEST, digest)
        storage.engine.dispose()
        fresh.replace(path)

    def _has_waiting(self) -> bool:
        return any(t.state.name == "WAITING" for t in self._study.get_trials(deepcopy=False))

    def _requeue_lost(self) -> None:
        """No other process writes here, so nobody works on what is running."""
        everything = self._study.get_trials(deepcopy=False)
        waiting = {_place(trial) for trial in everything if trial.state.name == "WAITING"}
        for trial in everything:
            if trial.state.name != "RUNNING":
                continue
            # First queued, then given up: a kill between the two leaves it in both, which is noticed here.
            if _VALUES in trial.user_attrs and not _lost(trial) and _place(trial) not in waiting:
                self._study.enqueue_trial(trial.params, {_PLACE: _place(trial)})
            self._give_up(self._optuna.Trial(self._study, trial._trial_id))

    def _give_up(self, trial: optuna.Trial) -> None:
        trial.set_user_attr(_LOST, True)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    def _places(self) -> set[int]:
        return {_place(t) for t in self._study.get_trials(deepcopy=False) if not _lost(t)}

    def _free_place(self) -> int:
        taken = self._places()
        return next(place for place in itertools.count() if place not in taken)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        # Seeded anew for each trial: an interrupted study draws what the uninterrupted one would.
        seed = int.from_bytes(hashlib.sha256(f"{self._seed}/{number}".encode()).digest()[:4], "big")
        samplers = self._optuna.samplers
        bayesian = self._hpo.strategy == "bayesian"
        found: optuna.samplers.BaseSampler = (
            samplers.TPESampler(seed=seed) if bayesian else samplers.RandomSampler(seed=seed)
        )
        return found

    def _pruner(self) -> optuna.pruners.BasePruner:
        pruners, hyperband = self._optuna.pruners, self._hpo.strategy == "hyperband"
        found: optuna.pruners.BasePruner = (
            pruners.HyperbandPruner(self._hpo.min_epochs, self._epochs)
            if hyperband
            else pruners.NopPruner()
        )
        return found


def _import_optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise RunError(
            f"{error.name} is not installed, and studies on this machine need it. "
            "Type pip install 'sagelight[hpo]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _digest(study: Study, fingerprint: str) -> str:
    made_from = {
        "format": FORMAT,
        "space": [{type(d).__name__: asdict(d)} for d in study.space.dimensions],
        "config": config_digest(study.config),
        "strategy": study.config.hpo.strategy,
        "photos": fingerprint,
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _lost(trial: optuna.trial.FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(_LOST))


def _place(trial: optuna.trial.FrozenTrial) -> int:
    return int(trial.user_attrs.get(_PLACE, -1))


def _refuse_foreign(path: Path) -> None:
    """Look without writing: Optuna would lay its tables into any database."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            database.execute("SELECT schema_version FROM version_info").fetchall()
    except sqlite3.Error as error:
        raise RunError(
            f"{path} is no study that can be read ({first_line(error)}). "
            "Type another run_dir; nothing in this one is changed."
        ) from error


def _working_copy(kept: Path, scratch: Path) -> Path:
    """The database in `scratch`, brought there from where it is kept unless it is there already."""
    _refuse_foreign(kept)
    scratch.mkdir(parents=True, exist_ok=True)
    database = scratch / DATABASE
    if kept.exists() and not database.exists():
        shutil.copyfile(kept, database)
    return database

"""Rules over a training while it runs: says what they find, ends it where that was asked, and leaves findings.json."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from sagelight.data.dataset import Batch
from sagelight.debugging.bridge import Bridge
from sagelight.debugging.rules.base import Verdict
from sagelight.debugging.rules.catalogue import build_usual
from sagelight.debugging.rules.evaluate import Evaluation, findings
from sagelight.debugging.settings import DebuggerSettings
from sagelight.debugging.trial import Trial
from sagelight.errors import DataError
from sagelight.files import write_json
from sagelight.rulebook import FINDINGS

STOP = "stop"


class RuleWatch(Callback):
    """Asks the rules after every validation, and after every step that left more than a loss."""

    def __init__(self, settings: DebuggerSettings, bridge: Bridge, folder: Path) -> None:
        self._bridge = bridge
        self._folder = folder
        self.rules = build_usual(settings)
        self._stopping = {name for name, action in settings.actions.items() if action == STOP}
        self._evaluation: Evaluation | None = None
        self._said: set[str] = set()
        self.stopped_by = ""

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if self._bridge.saved_now:
            self._go_on(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._go_on(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        # The error is what a person must read now; findings.json keeps the rest.
        self._end(trainer, say=False)

    def _go_on(self, trainer: pl.Trainer) -> None:
        name = ""
        if trainer.is_global_zero and self._opened() is not None:
            assert self._evaluation is not None
            name = self._say(self._evaluation.go_on())
        # Every process must stop in the same step.
        if self._stopping and any(self._agreed(trainer, name)):
            trainer.should_stop = True

    @staticmethod
    def _agreed(trainer: pl.Trainer, name: str) -> list[str]:
        found: list[str] = trainer.strategy.broadcast([name])
        return found

    def _end(self, trainer: pl.Trainer, say: bool = True) -> None:
        if not trainer.is_global_zero:
            return
        evaluation, status = self._opened(), self._bridge.status
        if evaluation is None and not status.stopped:
            return
        content: dict[str, Any] = {"status": status.to_dict(), "stopped_by": self.stopped_by}
        if evaluation is None:
            content |= {"verdicts": [], "damaged": []}
        else:
            verdicts = evaluation.end()
            if say:
                self._say(verdicts, over=True)
            content |= findings(evaluation)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(self._folder / FINDINGS, content)
        except OSError as error:
            self._bridge.give_up(error)

    def _opened(self) -> Evaluation | None:
        if self._evaluation is None and self._bridge.opened:
            try:
                self._evaluation = Evaluation(Trial.open(self._bridge.folder), self.rules)
            except DataError:
                # Nothing has been written, and the bridge has said why if it could not.
                return None
        return self._evaluation

    def _say(self, verdicts: list[Verdict], over: bool = False) -> str:
        """Say what is new; gives the name of a rule that ends the training where it is not over, or nothing."""
        for verdict in verdicts:
            if verdict.name in self._said or verdict.status not in ("IssuesFound", "Error"):
                continue
            self._said.add(verdict.name)
            print(f"debugger: {self._line(verdict)}", file=sys.stderr, flush=True)
            stops = verdict.status == "IssuesFound" and verdict.name in self._stopping
            if stops and not over:
                self.stopped_by = self.stopped_by or verdict.name
                print(
                    f"debugger: {verdict.name} ends the training, as debugger.actions says; "
                    "the best epoch so far becomes the bundle",
                    file=sys.stderr,
                    flush=True,
                )
        return self.stopped_by

    def _line(self, verdict: Verdict) -> str:
        if verdict.status == "Error":
            return f"{verdict.name} could not be evaluated: {verdict.reason}"
        rule = next(rule for rule in self.rules if type(rule).__name__ == verdict.name)
        first = verdict.findings[0]
        where = f"{first.tensor} in step {first.moment.step} of {first.moment.mode}"
        return f"{verdict.name}: {rule.means}: {where}: {first.numbers}. {rule.advice}"

"""The verb `train` on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sagelight.cli import LOCAL, refuse_flags
from sagelight.config.compose import load
from sagelight.config.grammar import hydra_text
from sagelight.config.schema import Config
from sagelight.errors import ConfigError, RunError
from sagelight.processes import collect_as_usual
from sagelight.training.together import processes_to_start, together
from sagelight.tuning.study import MULTIRUN, PROMISED, Study, read_study
from sagelight.tuning.trials import table

if TYPE_CHECKING:
    from sagelight.training.fit import Outcome


def train_here(words: list[str]) -> None:
    """Train, or study when there is something to tune; then say where the report is.

    Raises:
        SagelightError: see `sagelight.training.fit.fit` and `sagelight.tuning.local.run_study`.
    """
    source, words = _take_config_from(words)
    refuse_flags([word for word in words if word not in MULTIRUN])
    if source is not None:
        _refuse_study(words)
        _train(load(source, words), ["--config-from", str(source), *words])
        return
    study = read_study(words)
    if study.tunes:
        _study(study)
    else:
        _train(study.config, words)


def _train(config: Config, words: list[str]) -> None:
    started = LOCAL.command if Path(sys.argv[0]).name == "local.py" else "sagelight"
    command = f"{started} {shlex.join(words)}".strip()
    count = processes_to_start(config)
    outcome = together(count, _fit, config, command) if count > 1 else _fit(config, command)
    if outcome is not None:
        print(closing(outcome.folder, outcome.metrics))


def _fit(config: Config, command: str) -> Outcome | None:
    # Torch loads for seconds; a typo should not wait for it.
    from sagelight.training.fit import fit

    collect_as_usual()
    return fit(config, command)


def _study(study: Study) -> None:
    from sagelight.tuning.local import run_study

    outcome = run_study(study)
    print(table(outcome.trials))
    if outcome.photos:
        print(f"{outcome.photos} photos went through the backbone, once for all trials")
    print(f"trials  {outcome.folder / 'trials.csv'}\nreport  {outcome.folder / 'report.html'}")
    if outcome.best is None:
        raise RunError(
            "no trial had all its epochs, so none is the best. Type hpo.early_stopping=false, or more hpo.max_jobs."
        )
    chosen = " ".join(f"{name}={text}" for name, text in outcome.best.values.items())
    print(f"best    {chosen}\n        {outcome.best_file}")
    if study.config.hpo.retrain:
        folder = outcome.folder / "retrained"
        best = hydra_text(str(outcome.best_file))
        words = [f"experiment={best}", f"run_dir={hydra_text(str(folder))}"]
        _train(read_study(words).config, words)


def closing(folder: Path, metrics: dict[str, float]) -> str:
    """What a finished run says last: the test figure, and where to look."""
    lines = []
    if "test/accuracy" in metrics:
        low, high = metrics["test/accuracy_low"], metrics["test/accuracy_high"]
        lines.append(
            f"test accuracy {metrics['test/accuracy']:.4f} (95 % interval {low:.3f} to {high:.3f}), "
            f"best epoch {metrics['best_epoch']:g}"
        )
    lines += [f"report  {folder / 'report.html'}", f"bundle  {folder / 'bundle'}"]
    return "\n".join(lines)


def _take_config_from(words: list[str]) -> tuple[Path | None, list[str]]:
    if "--config-from" not in words:
        return None, words
    place = words.index("--config-from")
    if place + 1 >= len(words):
        raise ConfigError("--config-from needs a file: --config-from runs/latest/config.yaml")
    return Path(words[place + 1]), words[:place] + words[place + 2 :]


def _refuse_study(words: list[str]) -> None:
    for word in words:
        if word in MULTIRUN or word in PROMISED:
            raise ConfigError(
                f"{word}: --config-from repeats one run. Type experiment=FILE.yaml to tune around a configuration."
            )

"""The verb `train` on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from sagelight.cli import LOCAL, refuse_flags
from sagelight.config.compose import compose, load
from sagelight.errors import ConfigError


def train_here(words: list[str]) -> None:
    """Compose, train, and say where the report is.

    Raises:
        SagelightError: see `sagelight.training.fit.fit`.
    """
    source, words = _take_config_from(words)
    words = _promised_words(words)
    refuse_flags(words)
    config = compose(words) if source is None else load(source, words)
    # Torch loads for seconds; a typo should not wait for it.
    from sagelight.training.fit import fit

    started = LOCAL.command if Path(sys.argv[0]).name == "local.py" else "sagelight"
    origin = [] if source is None else ["--config-from", str(source)]
    outcome = fit(config, " ".join([started, shlex.join([*origin, *words])]).strip())
    if outcome is not None:
        print(closing(outcome.folder, outcome.metrics))


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


def _promised_words(words: list[str]) -> list[str]:
    for word in ("hpo=true", "-m", "--multirun"):
        if word in words:
            raise ConfigError(
                f"{word}: this machine trains one configuration and does not tune yet. Tuning jobs start with "
                "python launch/sagemaker.py; add cloud=rehearsal to run them here."
            )
    return ["hpo=none" if word == "hpo=false" else word for word in words]

"""The command line: a verb, then settings in Hydra's grammar. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sagelight.errors import ConfigError, SagelightError, suggestion

LOCAL = "python launch/local.py"


@dataclass(frozen=True)
class Verb:
    """A command: what it does in a sentence, an example, and where its settings and function live."""

    help: str
    example: str
    settings: str
    function: str

    def schema(self) -> type:
        found: type = _load(self.settings)
        return found

    def run(self, settings: Any) -> None:
        _load(self.function)(settings)


VERBS = {
    "train": Verb(
        "Train, measure and bundle a classifier (the verb when none is typed).",
        "train experiment=resnet18 data.root=photos",
        "sagelight.config.schema:Config",
        "sagelight.training.fit:fit",
    ),
    "check": Verb(
        "Is this data set fit to train on? Reads every file.",
        "check data.root=photos",
        "sagelight.data.check:CheckSettings",
        "sagelight.data.check:run_check",
    ),
    "stats": Verb(
        "Mean and standard deviation of the training photos.",
        "stats data.root=photos",
        "sagelight.data.stats:StatsSettings",
        "sagelight.data.stats:run_stats",
    ),
    "evaluate": Verb(
        "Measure a bundle on a folder of labelled photos.",
        "evaluate bundle=runs/latest/bundle data.root=photos",
        "sagelight.serving.evaluate:EvaluateSettings",
        "sagelight.serving.evaluate:run_evaluate",
    ),
    "predict": Verb(
        "Label a photo, or every photo in a folder.",
        "predict bundle=runs/latest/bundle input=photos output=labels.csv",
        "sagelight.serving.batch:PredictSettings",
        "sagelight.serving.batch:run_predict",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done; 2 the person's input (one message on stderr); 130 interrupted. Our own faults raise.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _dispatch(words)
    except SagelightError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone.
        sys.stderr.close()
        return 0
    return 0


def _dispatch(words: list[str]) -> None:
    asked_help = any(word in ("--help", "-h") for word in words)
    words = [word for word in words if word not in ("--help", "-h")]
    name = _verb(words)
    typed = words[1:] if words[:1] == [name] else words
    if asked_help:
        from sagelight.help import overview, verb_help

        print(verb_help(name) if words[:1] == [name] else overview(), end="")
    elif name == "train":
        _train(typed)
    else:
        from sagelight.config.verbs import parse_settings

        _refuse_flags(typed)
        verb = VERBS[name]
        verb.run(parse_settings(verb.schema(), typed, name))


def _verb(words: list[str]) -> str:
    first = words[0] if words else ""
    if first in VERBS:
        return first
    if not first or "=" in first or first.startswith(("-", "+", "~")):
        return "train"
    raise ConfigError(
        f"{first}: no such command.{suggestion(first, VERBS)} Choose one of {', '.join(VERBS)}, "
        "or type settings as key=value."
    )


def _train(words: list[str]) -> None:
    source, words = _take_config_from(words)
    _refuse_flags(words)
    words = _promised_words(words)
    from sagelight.config.compose import compose, load

    config = compose(words) if source is None else load(source, words)
    from sagelight.training.fit import fit

    started = LOCAL if Path(sys.argv[0]).name == "local.py" else "sagelight"
    origin = [] if source is None else ["--config-from", str(source)]
    outcome = fit(config, " ".join([started, shlex.join([*origin, *words])]).strip())
    print(_closing(outcome.folder, outcome.metrics))


def _take_config_from(words: list[str]) -> tuple[Path | None, list[str]]:
    if "--config-from" not in words:
        return None, words
    place = words.index("--config-from")
    if place + 1 >= len(words):
        raise ConfigError("--config-from needs a file: --config-from runs/latest/config.yaml")
    return Path(words[place + 1]), words[:place] + words[place + 2 :]


def _promised_words(words: list[str]) -> list[str]:
    if "hpo=true" in words:
        raise ConfigError("hpo=true: this version trains one configuration and does not tune yet.")
    return [word for word in words if word != "hpo=false"]


def _refuse_flags(words: list[str]) -> None:
    for word in words:
        if word in ("-m", "--multirun"):
            raise ConfigError(
                f"{word}: this version trains one configuration and does not sweep yet."
            )
        if word.startswith("-"):
            raise ConfigError(
                f"{word}: no such option. Settings are typed as key=value; see --help."
            )


def _closing(folder: Path, metrics: dict[str, float]) -> str:
    lines = []
    if "test/accuracy" in metrics:
        low, high = metrics["test/accuracy_low"], metrics["test/accuracy_high"]
        lines.append(
            f"test accuracy {metrics['test/accuracy']:.4f} (95 % interval {low:.3f} to {high:.3f}), "
            f"best epoch {metrics['best_epoch']:g}"
        )
    lines += [f"report  {folder / 'report.html'}", f"bundle  {folder / 'bundle'}"]
    return "\n".join(lines)


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)

"""The command line: a verb, then settings in Hydra's grammar. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sagelight.errors import (
    DISK_ERRORS,
    ConfigError,
    Interrupted,
    SagelightError,
    disk_message,
    suggestion,
)
from sagelight.processes import collect_rarely
from sagelight.secrets import masked


@dataclass(frozen=True)
class Verb:
    """A command: what it does in a sentence, an example, and where its settings and function live.

    A function takes the filled settings; that of `train` takes the words as typed, because only it is
    composed from conf/.
    """

    help: str
    example: str
    settings: str
    function: str
    takes_words: bool = False

    def schema(self) -> type:
        found: type = _load(self.settings)
        return found

    def run(self, argument: Any) -> None:
        _load(self.function)(argument)


@dataclass(frozen=True)
class Door:
    """One of the programs in launch/: how it is called, what it is for, and its verbs; `train` is the default."""

    command: str
    about: str
    verbs: dict[str, Verb]
    closing: tuple[str, ...]

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run one command.

        Returns:
            0 done; 2 the person's input (one message on stderr); 130 interrupted. Our own faults raise.
        """
        words = list(sys.argv[1:] if argv is None else argv)
        return guarded(lambda: _dispatch(self, words))


LOCAL = Door(
    "python launch/local.py",
    "Fine-tune an image classifier on a folder of photos.",
    {
        "train": Verb(
            "Train, measure and bundle a classifier (the verb when none is typed).",
            "train experiment=resnet18 data.root=photos",
            "sagelight.config.schema:Config",
            "sagelight.training.command:train_here",
            takes_words=True,
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
        "prepare": Verb(
            "Write the photos into shards, for many photos, S3 and several machines.",
            "prepare data.root=photos output=shards",
            "sagelight.data.shards.prepare:PrepareSettings",
            "sagelight.data.shards.prepare:run_prepare",
        ),
        "cache": Verb(
            "Features and resized photos that are kept for later runs: list them, or make room.",
            "cache clear=true",
            "sagelight.caches:CacheSettings",
            "sagelight.caches:run_cache",
        ),
        "debug": Verb(
            "Rules about the tensors of a training, from what SageMaker's debugger or smdebug has left.",
            "debug trial=tensors rules=[VanishingGradient,Overfit]",
            "sagelight.debugging.command:DebugSettings",
            "sagelight.debugging.command:run_debug",
        ),
        "evaluate": Verb(
            "Measure a bundle on a folder of labelled photos.",
            "evaluate bundle=runs/latest/bundle data.root=photos",
            "sagelight.serving.evaluate:EvaluateSettings",
            "sagelight.serving.evaluate:run_evaluate",
        ),
        "export": Verb(
            "A bundle in int8: smaller and faster, with its loss of accuracy measured.",
            "export bundle=runs/latest/bundle data.root=photos",
            "sagelight.serving.export:ExportSettings",
            "sagelight.serving.export:run_export",
        ),
        "predict": Verb(
            "Label a photo, or every photo in a folder.",
            "predict bundle=runs/latest/bundle input=photos output=labels.csv",
            "sagelight.serving.batch:PredictSettings",
            "sagelight.serving.batch:run_predict",
        ),
        "explain": Verb(
            "What the labels of photos rest on: heat maps, and a page to look at.",
            "explain bundle=runs/latest/bundle input=photos output=explained",
            "sagelight.explaining.command:ExplainSettings",
            "sagelight.explaining.command:run_explain",
        ),
        "serve": Verb(
            "Answer photos over HTTP, as a SageMaker endpoint does; with a page to try it.",
            "serve bundle=runs/latest/bundle port=8080",
            "sagelight.serving.server.settings:ServeSettings",
            "sagelight.serving.server.command:run_serve",
        ),
    },
    (
        "python launch/local.py --config-from runs/latest/config.yaml     repeat a run",
        "",
        "Try it: python launch/local.py experiment=digits",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """The door to this machine; see `Door.main`."""
    return LOCAL.main(argv)


def guarded(command: Callable[[], None]) -> int:
    """Run a command, and turn what ends it into an exit code and at most one message."""
    collect_rarely()
    try:
        command()
    except SagelightError as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        return 2
    except Interrupted as how:
        print(f"\n{how}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone.
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(f"error: {disk_message(error)}", file=sys.stderr)
        return 2
    return 0


def refuse_flags(words: list[str]) -> None:
    """Options in the manner of other programs are refused: here everything is key=value."""
    for word in words:
        if word.startswith("-"):
            raise ConfigError(
                f"{word}: no such option. Settings are typed as key=value; see --help."
            )


def _dispatch(door: Door, words: list[str]) -> None:
    asked_help = any(word in ("--help", "-h") for word in words)
    words = [word for word in words if word not in ("--help", "-h")]
    name = _verb(door, words)
    typed = words[1:] if words[:1] == [name] else words
    verb = door.verbs[name]
    if asked_help:
        from sagelight.help import overview, verb_help

        print(verb_help(door, name) if words[:1] == [name] else overview(door), end="")
    elif verb.takes_words:
        verb.run(typed)
    else:
        from sagelight.config.verbs import parse_settings

        refuse_flags(typed)
        verb.run(parse_settings(verb.schema(), typed, f"{door.command} {name}"))


def _verb(door: Door, words: list[str]) -> str:
    first = words[0] if words else ""
    if first in door.verbs:
        return first
    if not first or "=" in first or first.startswith(("-", "+", "~")):
        return "train"
    raise ConfigError(
        f"{first}: no such command.{suggestion(first, door.verbs)} Choose one of "
        f"{', '.join(door.verbs)}, or type settings as key=value."
    )


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)

"""What runs inside a SageMaker training job: the hyperparameters become a configuration, `fit` does the rest."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from sagelight.archives import unpack
from sagelight.config.compose import compose
from sagelight.config.grammar import hydra_text, parse_override
from sagelight.config.hyperparameters import decode
from sagelight.config.schema import Config
from sagelight.container.paths import (
    CHECKPOINT_KEY,
    RESIZED,
    SHARDS,
    TENSORS,
    TRAINING,
    WEIGHTS,
    JobPaths,
)
from sagelight.errors import RunError, SagelightError
from sagelight.files import write_json
from sagelight.parsing import read_json
from sagelight.processes import Processes, collect_as_usual, collect_rarely
from sagelight.secrets import masked

CLOUD_COMMAND = "python launch/sagemaker.py"
# What the run's directory holds for continuing only.
_NOT_OUTPUT = shutil.ignore_patterns("checkpoints", "bundle", "trials", "study.db*", ".lock")
STUDY = "study"


def main() -> int:
    """Train as the job says, and leave the bundle where SageMaker picks it up.

    Returns:
        0 done; 2 the person's input, with the message in the failure file and on stderr, which SageMaker shows
        as the failure's reason. Our own faults raise.
    """
    collect_rarely()
    # Unbuffered, as containers are, a line and its end are two writes, and the toolkit makes a line of each.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
    paths = JobPaths.here()
    try:
        _train(paths)
    except SagelightError as error:
        message = f"error: {masked(str(error))}"
        print(message, file=sys.stderr)
        paths.failure.parent.mkdir(parents=True, exist_ok=True)
        paths.failure.write_text(message, encoding="utf-8")
        return 2
    return 0


def job_config(paths: JobPaths) -> tuple[Config, list[str]]:
    """The configuration of this job, in the job's own folders, and the overrides that made it.

    Raises:
        ConfigError: hyperparameters that are not ours, or values that are refused.
        RunError: no hyperparameters.
    """
    hyperparameters = read_hyperparameters(paths.hyperparameters)
    overrides = decode(hyperparameters)
    config = _moved(compose(overrides), paths)
    config.run_dir = str(paths.checkpoints / _run_name(hyperparameters))
    _watch(config, paths)
    return config, overrides


def read_hyperparameters(path: Path) -> dict[str, str]:
    """The hyperparameters of a job, as its file holds them.

    Raises:
        RunError: no such file, or one that does not hold texts by name.
    """
    found = _read_json(path)
    if not all(isinstance(value, str) for value in found.values()):
        raise _unreadable(path, "its values are not texts")
    return found


def unpack_shards(channel: Path) -> None:
    """Turn the shards that a channel brought back into photos; a channel of plain photos stays as it is."""
    for shard in sorted(channel.glob(SHARDS.format("*"))):
        unpack(shard, channel)
        # The disk was sized for the photos once.
        shard.unlink()


def _train(paths: JobPaths) -> None:
    overrides = decode(read_hyperparameters(paths.hyperparameters))
    if any(parse_override(text).is_sweep_override() for text in overrides):
        _study(paths, overrides)
    else:
        _fit(paths)


def _study(paths: JobPaths, overrides: list[str]) -> None:
    """A whole study inside this job, and with hpo.retrain the best trial trained again."""
    unpack_shards(paths.channel(TRAINING))
    from sagelight.training.fit import fit
    from sagelight.tuning.local import run_study
    from sagelight.tuning.study import read_study

    collect_as_usual()
    here = _places(paths, [t for t in overrides if not parse_override(t).is_sweep_override()])
    folder = paths.checkpoints / STUDY
    study = read_study(["-m", *overrides, *here, f"run_dir='{folder}'", "hpo.backend=local"])
    outcome = run_study(study, paths.scratch)
    if study.config.hpo.retrain and outcome.best_file is not None:
        words = [
            f"experiment={hydra_text(str(outcome.best_file))}",
            *here,
            f"run_dir='{folder / 'retrained'}'",
        ]
        trained = fit(compose(words), f"{CLOUD_COMMAND} {shlex.join(overrides)}")
        assert trained is not None
        shutil.copytree(trained.folder / "bundle", paths.model, dirs_exist_ok=True)
    shutil.copytree(outcome.folder, paths.output, ignore=_NOT_OUTPUT, dirs_exist_ok=True)


def _places(paths: JobPaths, overrides: list[str]) -> list[str]:
    """The overrides that lead to this container's folders."""
    config = _moved(compose(overrides), paths)
    root = [] if config.data.root is None else [f"data.root='{config.data.root}'"]
    moved = {"model.weights": config.model.weights, "data.cache_folder": config.data.cache_folder}
    return [*root, *(f"{name}='{place}'" for name, place in moved.items())]


def _fit(paths: JobPaths) -> None:
    config, overrides = job_config(paths)
    if Processes.here().first_here:
        # The others of this machine wait for it when they join.
        unpack_shards(paths.channel(TRAINING))
    from sagelight.training.fit import fit

    collect_as_usual()
    outcome = fit(config, f"{CLOUD_COMMAND} {shlex.join(overrides)}")
    if outcome is None:
        return
    shutil.copytree(outcome.folder / "bundle", paths.model, dirs_exist_ok=True)
    shutil.copytree(outcome.folder, paths.output, ignore=_NOT_OUTPUT, dirs_exist_ok=True)


def _moved(config: Config, paths: JobPaths) -> Config:
    """The configuration with photos and weights where this container keeps them."""
    data, model = config.data, config.model
    data.root = paths.inside(data.root) if data.root is not None else None
    model.weights = paths.inside(model.weights)
    # The job's own disk, which is sized with the job; the home folder lies on the image's.
    data.cache_folder = paths.inside(data.cache_folder or RESIZED)
    sent = paths.channel(WEIGHTS) / f"{model.backbone}.pth"
    if model.weights == "default" and sent.is_file():
        # torchvision's own weights travel with the job, which may have no network.
        model.weights = str(sent)
    return config


def _watch(config: Config, paths: JobPaths) -> None:
    """What Debugger was asked to keep is kept where it looks; rules that AWS alone has are left to it."""
    debugger = config.debugger
    if paths.hook_config.is_file():
        debugger.hook_config = str(_hook_config(paths))
    if debugger.cloud:
        from sagelight.debugging.rules.catalogue import RULES

        debugger.rules = [name for name in debugger.rules if name in RULES]
        debugger.parameters = {k: v for k, v in debugger.parameters.items() if k in RULES}
        debugger.actions = {k: v for k, v in debugger.actions.items() if k in RULES}


def _hook_config(paths: JobPaths) -> Path:
    """The job's debughookconfig.json, or a copy of it that names this container's folder for the trial."""
    asked = _read_json(paths.hook_config)
    folder = paths.inside(str(asked.get("LocalPath") or TENSORS))
    if asked.get("LocalPath") == folder:
        return paths.hook_config
    paths.scratch.mkdir(parents=True, exist_ok=True)
    copy = paths.scratch / paths.hook_config.name
    write_json(copy, asked | {"LocalPath": folder})
    return copy


def _run_name(hyperparameters: dict[str, str]) -> str:
    """A training keeps its folder over attempts; the trials of a study may share a bucket's folder, not a name."""
    return hyperparameters.get(CHECKPOINT_KEY) or os.environ.get("TRAINING_JOB_NAME", "run")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = read_json(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(loaded, dict):
        raise _unreadable(path, "it is no mapping")
    return loaded


def _unreadable(path: Path, why: str) -> RunError:
    return RunError(
        f"{path} cannot be read ({why}): this program runs inside SageMaker training jobs. "
        "Start one with python launch/sagemaker.py."
    )

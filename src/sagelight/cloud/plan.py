"""Everything that a job would be, before anything is sent: the request, what goes up, the ceiling, every problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from sagelight.bundle.provenance import git_commit
from sagelight.cloud.backend import choose_backend
from sagelight.cloud.contract import violations
from sagelight.cloud.data import Cargo, photos, weights_file
from sagelight.cloud.debugger import asks_debugger, debugger_notices
from sagelight.cloud.place import find_place, gpus, rules_image_uri
from sagelight.cloud.processes import of_machine
from sagelight.cloud.request import TUNING_JOB, Payload, Place, Request, build_request
from sagelight.cloud.rules import broken_rules, combinations, wall_notices
from sagelight.cloud.source import EXPERIMENTS, Source, pack_source
from sagelight.config.compose import compose
from sagelight.config.grammar import hydra_text, parse_override
from sagelight.config.setting import AUTO
from sagelight.container.paths import CHANNELS, TRAINING, WEIGHTS
from sagelight.data.check import enforce, inspect_data
from sagelight.data.index import ImageIndex
from sagelight.data.prepare import open_index, without
from sagelight.data.settings import STREAMED
from sagelight.errors import SagelightError
from sagelight.tuning.space import Categorical, sweep_words
from sagelight.tuning.study import Study

T = TypeVar("T")
S3 = "s3://"
# What only says where something lies on this machine, or how this machine talks to AWS.
STAYS_HERE = ("run_dir", "resume", "data.root", "model.weights", "name")


@dataclass(frozen=True)
class Plan:
    """A study, ready to be sent or with the reasons why not.

    Attributes:
        cargo: files that must lie in the bucket before the job starts.
        backbones: networks of which torchvision's weights must lie there too.
        backend: where a study runs, and why; empty for one training.
        problems: what would be refused or would fail, each saying what to type.
        assumed: what is only known where AWS is set up; a job is not started on it.
        notices: what a person should know, and need not change.
        processes: that train one network together, on all machines of a job.
    """

    study: Study
    place: Place
    source: Source
    cargo: tuple[Cargo, ...]
    backbones: tuple[str, ...]
    request: Request
    backend: tuple[str, str]
    problems: tuple[str, ...]
    assumed: tuple[str, ...]
    notices: tuple[str, ...] = ()
    processes: int = 1

    @property
    def source_uri(self) -> str:
        """Where the code lies in the bucket."""
        return self.uri(_source_key(self.source))

    def uri(self, key: str) -> str:
        """Where something lies in the bucket, by its key below the prefix."""
        return _uri(self.study, self.place, key)

    @property
    def jobs(self) -> int:
        """The most training jobs that the request can start."""
        if self.request.operation != TUNING_JOB:
            return 1
        return self.trials

    @property
    def trials(self) -> int:
        """The most trials of a study, in however many jobs."""
        hpo = self.study.config.hpo
        return combinations(self.study.space) if hpo.strategy == "grid" else hpo.max_jobs

    @property
    def ceiling_hours(self) -> float:
        """Instance-hours that cannot be exceeded: jobs x instances x longest runtime, and warm pools kept after."""
        cloud = self.study.config.cloud
        seconds = (self.jobs + self.retrains) * cloud.max_runtime_seconds + self.warm_seconds
        return seconds * cloud.instance_count / 3600

    @property
    def warm_seconds(self) -> int:
        """Time that machines are kept, and paid, after single trainings; a tuning job's own pool has no setting."""
        single = self.retrains if self.study.tunes else 1
        return single * self.study.config.cloud.keep_alive_seconds

    @property
    def retrains(self) -> int:
        """1 when the best trial is trained once more, in a job of its own."""
        return int(self.study.tunes and self.study.config.hpo.retrain and not self.study_inside)

    @property
    def study_inside(self) -> bool:
        """Whether a whole study runs inside one training job."""
        return self.backend[0] == "job"


def make_plan(study: Study) -> Plan:
    """Plan a study. Nothing is sent and no network is used; what is wrong is collected, not raised.

    Raises:
        CloudError: the packages of the AWS side are not installed.
    """
    cloud = study.config.cloud
    found = find_place(cloud)
    problems = list(found.problems)
    place = _with_rules_image(study, found.place, problems)
    index = _index(study, problems)
    data = _collect(problems, lambda: photos(index)) if index is not None else None
    weights = _weights(study, problems)
    overrides, experiments = travelling(study)
    backend = _collect(problems, lambda: choose_backend(study)) if study.tunes else None
    one_job = backend is not None and backend[0] == "job"
    if one_job:
        overrides = (*overrides, *sweep_words(study.space))
    source = _collect(problems, lambda: pack_source(experiments, one_job)) or Source(b"", 0)
    payload = Payload(
        source=_uri(study, place, _source_key(source)),
        data=_data_uri(study, place, data),
        weights=_weights_uri(study, place, weights),
        overrides=overrides,
        gpus=gpus(cloud.instance_type, place.region),
        commit=git_commit(),
        shards=study.config.data.name == "shards",
    )
    request = build_request(study, place, payload, one_job)
    problems += violations(request.operation, request.body)
    training = len(index.splits["train"]) if index is not None else None
    count = len(static_hyperparameters(request))
    problems += broken_rules(study, count, payload.gpus, training, one_job)
    return Plan(
        study,
        place,
        source,
        tuple(each for each in (data, weights) if each is not None),
        default_backbones(study),
        request,
        backend or ("", ""),
        tuple(problems),
        found.assumed,
        (
            *debugger_notices(study, one_job),
            *wall_notices(cloud, cloud.instance_type, cloud.image == AUTO),
        ),
        of_machine(study, payload.gpus, one_job) * cloud.instance_count,
    )


def travelling(study: Study) -> tuple[tuple[str, ...], dict[str, Path]]:
    """What a job composes its configuration from, and the experiment files that go with it.

    Settings that only name a place on this machine stay here; the job's own folders take their part.
    """
    texts: list[str] = []
    experiments: dict[str, Path] = {}
    for text in study.fixed:
        override = parse_override(text)
        name, value = override.key_or_group, str(override.value())
        if name in STAYS_HERE or name.split(".")[0] == "cloud":
            continue
        if name == "experiment" and "." in value:
            experiments[Path(value).name] = Path(value)
            text = f"experiment={EXPERIMENTS}/{Path(value).name}"
        texts.append(text)
    data, weights = study.config.data, study.config.model.weights
    if data.root is not None:
        texts.append(f"data.root={CHANNELS}/{TRAINING}")
    if data.name == "shards" and data.shuffle_shards == AUTO:
        # They are mounted, not copied.
        texts.append(f"data.shuffle_shards={STREAMED}")
    if data.name == "digits":
        # They arrive as photos like any other.
        texts.append("data.name=folder")
    if weights not in ("default", "none"):
        texts.append(f"model.weights={CHANNELS}/{WEIGHTS}/{hydra_text(Path(weights).name)}")
    elif "model.weights" not in study.space.names:
        texts.append(f"model.weights={weights}")
    return tuple(texts), experiments


def static_hyperparameters(request: Request) -> dict[str, str]:
    """The hyperparameters that every training of a request shares."""
    body = request.body
    found: dict[str, str] = (
        body["TrainingJobDefinition"]["StaticHyperParameters"]
        if request.operation == TUNING_JOB
        else body["HyperParameters"]
    )
    return found


def default_backbones(study: Study) -> tuple[str, ...]:
    """The networks of which torchvision's default weights go up, sorted; none when weights are given or random."""
    tried = next((d for d in study.space.dimensions if d.name == "model.weights"), None)
    wanted = tried.values if isinstance(tried, Categorical) else (study.config.model.weights,)
    if "default" not in wanted:
        return ()
    found = {study.config.model.backbone}
    for dimension in study.space.dimensions:
        if dimension.name == "model.backbone" and isinstance(dimension, Categorical):
            found = set(dimension.values)
        if dimension.name == "model" and isinstance(dimension, Categorical):
            found = {compose([*study.fixed, f"model={v}"]).model.backbone for v in dimension.values}
    return tuple(sorted(found))


def torchvision_key(backbones: tuple[str, ...]) -> str:
    """Where torchvision's weights lie below the prefix; another torchvision has others."""
    return f"weights/torchvision-{metadata.version('torchvision')}/{'+'.join(backbones)}"


def _with_rules_image(study: Study, place: Place, problems: list[str]) -> Place:
    if not asks_debugger(study):
        return place
    image = _collect(problems, lambda: rules_image_uri(place.region))
    return replace(place, rules_image=image or "unknown")


def _index(study: Study, problems: list[str]) -> ImageIndex | None:
    data = study.config.data
    if data.root is not None and data.root.startswith(S3):
        return None
    if data.name == "shards":
        problems.append(
            f"data.root={data.root}: a job reads shards from S3. Type "
            "`python launch/local.py prepare data.root=PHOTOS output=s3://BUCKET/PREFIX`, then data.root=s3://BUCKET/PREFIX"
        )
        return None
    index = _collect(problems, lambda: open_index(data))
    if index is None or study.config.check == "off":
        return index
    report = inspect_data(index, full=False)
    _collect(problems, lambda: enforce(report, study.config.check))
    return without(index, set(report.unreadable))


def _weights(study: Study, problems: list[str]) -> Cargo | None:
    weights = study.config.model.weights
    if weights in ("default", "none"):
        return None
    if not Path(weights).is_file():
        problems.append(
            f"model.weights={weights}: no such file. Type model.weights=default, none, or a path"
        )
        return None
    return weights_file(Path(weights))


def _source_key(source: Source) -> str:
    return f"source/{source.digest[:16]}/sourcedir.tar.gz"


def _data_uri(study: Study, place: Place, data: Cargo | None) -> str:
    root = study.config.data.root
    if root is not None and root.startswith(S3):
        return root
    return _uri(study, place, data.key) if data else _uri(study, place, "data/unknown")


def _weights_uri(study: Study, place: Place, weights: Cargo | None) -> str | None:
    if weights is not None:
        return _uri(study, place, weights.key)
    backbones = default_backbones(study)
    return _uri(study, place, torchvision_key(backbones)) if backbones else None


def _uri(study: Study, place: Place, key: str) -> str:
    return f"{S3}{place.bucket}/{study.config.cloud.prefix}/{key}"


def _collect(problems: list[str], work: Callable[[], T]) -> T | None:
    try:
        return work()
    except SagelightError as error:
        problems.append(str(error))
        return None

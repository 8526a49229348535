from __future__ import annotations

import copy
import csv
import errno
import json
import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from debugging.trainings import (
    SMALL,
    around_step,
    at_the_end_of,
    attributes,
    traces,
    train,
    trial_of,
)
from debugging.trials import LOSS, leave_steps
from images import make_folder
from sagelight.config.compose import compose
from sagelight.data.dataset import Batch
from sagelight.debugging.bridge import Bridge
from sagelight.debugging.hook_config import EARLY, default_hook_config
from sagelight.debugging.settings import DebuggerSettings
from sagelight.debugging.trial import Moment, Trial
from sagelight.debugging.watch import RuleWatch
from sagelight.debugging.writer import TrialWriter
from sagelight.errors import RunError
from sagelight.models.classifier import Classifier
from sagelight.training import finish as finishing
from sagelight.training import fit as fitting

WEIGHT, BIAS = "Network_head.2.weight", "Network_head.2.bias"
# Three batches an epoch and a validation after each.
MOMENTS = [
    Moment(0, "TRAIN", 0), Moment(1, "TRAIN", 1), Moment(2, "TRAIN", 2), Moment(3, "EVAL", 0),
    Moment(4, "TRAIN", 3), Moment(5, "TRAIN", 4), Moment(6, "TRAIN", 5), Moment(7, "EVAL", 1),
]  # fmt: skip


# Those that keep more than a loss.
FULL = [step for step in range(6) if step in EARLY]


def validation_losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [float(row["val/loss"]) for row in csv.DictReader(file)]


def series(trial: Trial, name: str, mode: str = "TRAIN", reduction: str = "") -> list[float]:
    return [float(value) for _, value in trial.series(name, mode, reduction)]


def found(run: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run / "debugger" / "findings.json").read_text())
    return read


class Plain:
    """Plain cross-entropy of every training batch, and the loss that was optimised, beside the bridge."""

    def __init__(self) -> None:
        self.plain: list[float] = []
        self.optimised: list[float] = []

    def __call__(self, trainer: pl.Trainer, model: Classifier, data: Any) -> None:
        step = model.training_step
        scores: list[Tensor] = []
        model.network.register_forward_hook(lambda m, i, output: scores.append(output.detach()))

        def looked(batch: Batch, batch_idx: int) -> Any:
            loss = step(batch, batch_idx)
            assert loss is not None
            plain = nn.functional.cross_entropy(scores[-1].float(), batch.targets)
            self.plain.append(float(plain))
            self.optimised.append(float(loss.detach()))
            return loss

        model.training_step = looked  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def default(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(photos, str(tmp_path_factory.mktemp("default") / "run"))


def test_steps_are_batches_and_whole_validations(default: Path) -> None:
    trial = trial_of(default)
    assert trial.moments() == MOMENTS
    assert trial.ended
    assert not trial.damaged
    full = trial.names(moment=MOMENTS[0])
    # Of predictions, those of validation are what rules judge.
    assert trial.names(moment=MOMENTS[5]) == [LOSS, "labels"]
    assert trial.names(moment=MOMENTS[3]) == [LOSS, "labels", "predictions"]
    for name in (WEIGHT, BIAS, f"gradient/{WEIGHT}", f"update/{WEIGHT}", "backbone_input_0_means"):
        assert name in full
        assert trial.steps(name, "TRAIN") == FULL


def test_names_and_collections_are_smdebugs_and_ours(default: Path) -> None:
    trial = trial_of(default)
    of = {name: sorted(tensors) for name, tensors in trial.collections.items()}
    assert of["losses"] == [LOSS]
    assert {*of} == {
        "losses", "weights", "biases", "gradients", "updates", "relu_input", "relu_output", "inputs", "labels",
        "predictions",
    }  # fmt: skip
    learned = [*of["weights"], *of["biases"]]
    assert sorted(of["gradients"]) == sorted(f"gradient/{name}" for name in learned)
    assert sorted(of["updates"]) == sorted(f"update/{name}" for name in learned)
    assert all(name.endswith("_input_0") for name in of["relu_input"])
    assert all(name.endswith("_output_0_active") for name in of["relu_output"])
    kept = json.loads(next((default / "debugger").rglob("worker_0_collections.json")).read_text())
    assert kept["_meta"] == {"num_workers": 1}
    weights = kept["collections"]["weights"]["reduction_config"]
    assert weights == {"reductions": "abs_mean,std", "save_raw_tensor": False, "save_shape": False}


def test_shapes_are_those_that_rules_ask_for(default: Path) -> None:
    trial = trial_of(default)
    images = trial.value("backbone_input_0_means", "TRAIN", 0)
    assert images is not None
    assert images.shape == (8, 3, 1, 1)
    active = trial.value("backbone.features.1_output_0_active", "TRAIN", 0)
    assert active is not None
    assert active.shape == (64,)
    assert ((active >= 0) & (active <= 1)).all()
    spread = trial.value("backbone.features.1_input_0", "TRAIN", 0, "variance")
    assert spread is not None
    assert spread > 0
    labels = trial.value("labels", "EVAL", 0)
    predictions = trial.value("predictions", "EVAL", 0)
    assert labels is not None
    assert predictions is not None
    assert labels.shape == predictions.shape
    assert labels.dtype == np.int32


def test_findings_say_what_was_done(default: Path) -> None:
    content = found(default)
    status = content["status"]
    assert status["saved"] == {"TRAIN": 6, "EVAL": 2}
    files = list((default / "debugger" / "trial").rglob("*_worker_0.*"))
    sizes = [each.stat().st_size for each in files if "collections" not in each.name]
    assert status["bytes"] == sum(sizes)
    assert (status["stopped"], content["stopped_by"], content["damaged"]) == ("", "", [])
    assert len(content["verdicts"]) == 14
    assert not any(verdict["status"] == "Error" for verdict in content["verdicts"])


@pytest.mark.parametrize(
    "words",
    [
        ["loss.label_smoothing=0.3", "callbacks=ema"],
        ["trainer.precision=bf16-mixed"],
        ["augment=mixup_cutmix", "trainer.accumulate_grad_batches=2"],
        ["finetune=head", "augment=none", "features.cache=on", "features.folder=features"],
        ["finetune=head", "augment=none", "features.cache=off"],
    ],
    ids=["smoothing-ema", "bf16", "mixup-accumulated", "cached", "uncached"],
)
def test_losses_are_those_of_the_training(photos: Path, words: list[str]) -> None:
    spy = Plain()
    run = train(photos, "run", *words, before=spy)
    trial = trial_of(run)
    mixed = "augment=mixup_cutmix" in words
    expected = spy.optimised if mixed else spy.plain
    assert series(trial, LOSS) == pytest.approx(expected, rel=1e-6)
    assert series(trial, LOSS, "EVAL") == pytest.approx(validation_losses(run), rel=1e-5)
    assert trial.moments() == MOMENTS
    # Of mixed photos there is no one label.
    assert trial.steps("labels", "TRAIN") == ([] if mixed else [0, 1, 2, 3, 4, 5])
    assert not trial.damaged
    assert not any(verdict["status"] == "Error" for verdict in found(run)["verdicts"])
    learned = trial.names(collection="gradients")
    assert (len(learned) == 4) == ("finetune=head" in words)


def test_a_cached_backbone_gives_the_same_trial_of_the_head(photos: Path) -> None:
    words = ["finetune=head", "augment=none", "features.folder=features", "features.dtype=float32"]
    cached, photographed = (
        trial_of(train(photos, cache, *words, f"features.cache={cache}")) for cache in ("on", "off")
    )
    assert series(cached, LOSS) == pytest.approx(series(photographed, LOSS), rel=1e-4)
    for name in (WEIGHT, f"gradient/{WEIGHT}"):
        assert series(cached, name, "TRAIN", "abs_mean") == pytest.approx(
            series(photographed, name, "TRAIN", "abs_mean"), rel=1e-4
        )
    # Features go into the head alone.
    assert not cached.names(regex="backbone")
    assert photographed.names(regex="^backbone_input_0_means$")


def test_updates_are_what_the_optimizer_did(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["optimizer=sgd", "optimizer.lr=0.1", "optimizer.weight_decay=0", "schedule.warmup=0"]
    gradients: list[dict[str, Tensor]] = []

    class Look(Callback):
        def on_before_optimizer_step(self, *arguments: Any) -> None:
            network = arguments[1].network
            gradients.append({n: p.grad.clone() for n, p in network.named_parameters()})

    run = train(
        photos, "run", *words, "debugger.raw=true", before=lambda t, m, d: at_the_end_of(t, Look())
    )
    trial = trial_of(run)
    names = [*trial.names(collection="weights"), *trial.names(collection="biases")]
    assert len(names) == len(gradients[0])
    size = 0
    for name in names:
        before, update, gradient = (
            dict(trial.series(each, "TRAIN"))
            for each in (name, f"update/{name}", f"gradient/{name}")
        )
        for step in (0, 1):
            assert np.allclose(before[step] + update[step], before[step + 1], atol=1e-7)
            mine = gradients[step][name.removeprefix("Network_")].numpy()
            assert np.array_equal(gradient[step], mine)
        # Without momentum in the first step, it goes straight down the gradient.
        moved, slope = update[0].ravel(), gradient[0].ravel()
        if np.abs(slope).max() > 1e-6:
            rates = moved @ slope / (slope @ slope)
            assert np.allclose(moved, rates * slope, atol=1e-6)
            assert rates < 0
        size += 3 * update[0].nbytes
    said = capsys.readouterr().out
    assert (
        f"debugger: whole tensors take {size / 1e6:.0f} MB a time, {len(FULL)} times: {len(FULL) * size / 1e9:.1f} GB in "
        f"{run / 'debugger' / 'trial'}"
    ) in said
    # What is said is what is taken, but for losses and activations' figures.
    assert size <= found(run)["status"]["bytes"] / len(FULL) < 1.1 * size


def test_summed_gradients_are_kept_where_the_optimizer_moves(photos: Path) -> None:
    moves: list[int] = []

    class Look(Callback):
        def on_before_optimizer_step(self, *arguments: Any) -> None:
            moves.append(arguments[0].fit_loop.epoch_loop.batch_idx)

    run = train(
        photos,
        "run",
        "trainer.accumulate_grad_batches=2",
        before=lambda t, m, d: at_the_end_of(t, Look()),
    )
    assert moves == [1, 2, 1, 2]
    trial = trial_of(run)
    assert trial.steps(LOSS, "TRAIN") == list(range(6))
    # A step that is due is kept when the optimizer moves, in the batch that completes its sum.
    moved = sorted({step + (step % 3 == 0) for step in FULL})
    for name in (WEIGHT, f"gradient/{WEIGHT}", f"update/{WEIGHT}"):
        assert trial.steps(name, "TRAIN") == moved
    assert min(series(trial, f"update/{WEIGHT}", "TRAIN", "abs_mean")) > 0


class Killed(BaseException):
    """Ends a process as a signal would that nobody hears."""


def killed_at(step: int) -> Any:
    def before(trainer: pl.Trainer, model: Classifier, data: Any) -> None:
        def look(number: int, batch: Batch) -> None:
            if number == step:
                raise Killed

        around_step(model, look)

    return before


def contents(trial: Trial) -> dict[tuple[str, str, int], list[float]]:
    return {
        (name, m.mode, m.step): kept.ravel().tolist()
        for m in trial.moments()
        for name in trial.names(moment=m)
        if (kept := trial.kept(name, m)) is not None
    }


@pytest.mark.parametrize("step", [1, 4, 5])
def test_a_killed_run_leaves_the_same_trial_in_the_end(
    photos: Path, default: Path, step: int
) -> None:
    """Killed in the first epoch, which leaves no checkpoint, it begins anew; in the second it goes on."""
    with (
        mock.patch.object(Bridge, "_close", Bridge._detach),
        mock.patch.object(RuleWatch, "_end"),
        pytest.raises(Killed),
    ):
        train(photos, "run", before=killed_at(step))
    broken = trial_of(Path("run"))
    assert not broken.ended
    assert len(broken.moments()) == step + (step > 3)
    stray = next(Path("run/debugger/trial/events").rglob("*.tfevents")).with_suffix(".stray")
    stray.touch()
    train(photos, "run")
    trial = trial_of(Path("run"))
    assert stray.exists() == (step > 3)
    assert trial.ended
    assert trial.moments() == MOMENTS
    once, twice = contents(trial_of(default)), contents(trial)
    assert once.keys() == twice.keys()
    # Training repeats bit for bit; the last digit of a validation loss may differ, as in metrics.csv.
    differ = {key for key in once if once[key] != twice[key]}
    assert differ <= {(LOSS, "EVAL", 1)}
    assert twice[LOSS, "EVAL", 1] == pytest.approx(once[LOSS, "EVAL", 1], rel=1e-5)
    assert trial.collections == trial_of(default).collections
    verdicts = {v["name"]: (v["status"], v["points"]) for v in found(Path("run"))["verdicts"]}
    assert verdicts == {v["name"]: (v["status"], v["points"]) for v in found(default)["verdicts"]}


def test_the_network_is_clean_whenever_anybody_else_looks(photos: Path) -> None:
    seen: list[list[str]] = []
    in_steps: list[list[str]] = []
    kept: list[Any] = []

    class Look(Callback):
        def _look(self, model: pl.LightningModule) -> None:
            assert isinstance(model, Classifier)
            seen.append(traces(model.network))
            copy.deepcopy(model)

        def on_train_batch_end(self, *arguments: Any) -> None:
            self._look(arguments[1])

        def on_validation_end(self, *arguments: Any) -> None:
            self._look(arguments[1])

        def on_save_checkpoint(self, *arguments: Any) -> None:
            self._look(arguments[1])

        def on_train_end(self, *arguments: Any) -> None:
            self._look(arguments[1])

    def before(trainer: pl.Trainer, model: Classifier, data: Any) -> None:
        at_the_end_of(trainer, Look())
        around_step(model, lambda n, batch: in_steps.append(traces(model.network)))
        kept.extend((model, attributes(model.network)))

    train(photos, "run", before=before)
    assert all(in_steps)
    assert len(seen) >= 6 + 2 + 2 + 1
    assert not any(seen)
    assert_untouched(kept[0], kept[1])


def assert_untouched(model: Classifier, before: dict[str, Any]) -> None:
    network = model.network
    assert not traces(network)
    assert attributes(network) == before
    written = pickle.dumps(network)
    assert not re.search(rb"debugging|smdebug", written)
    network.cpu().eval()
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    expected = network(images)
    for other in (copy.deepcopy(network), pickle.loads(written).eval()):
        assert torch.equal(other(images), expected)
    exported = torch.export.export(network, (images,)).module()
    assert torch.allclose(exported(images), expected, atol=1e-5)


@pytest.mark.parametrize("where", ["training", "validation"])
def test_the_network_is_clean_after_an_exception_in_mid_step(photos: Path, where: str) -> None:
    kept: list[Any] = []

    def before(trainer: pl.Trainer, model: Classifier, data: Any) -> None:
        kept.extend((model, attributes(model.network)))
        linear = model.network.head[2]
        forward = linear.forward

        def fails(features: Tensor) -> Tensor:
            if model.network.training == (where == "training"):
                assert traces(model.network)
                del linear.forward
                raise ZeroDivisionError("by hand")
            result: Tensor = forward(features)
            return result

        linear.forward = fails

    with pytest.raises(ZeroDivisionError, match="by hand"):
        train(photos, "run", before=before)
    assert_untouched(kept[0], kept[1])
    assert Path("run/debugger/trial/training_job_end.ts").exists()


def test_a_full_disk_ends_the_watching_and_not_the_training(
    photos: Path, default: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = TrialWriter.write

    def full(self: TrialWriter, place: Any, tensors: Any) -> int:
        if place.step >= 3:
            raise OSError(errno.ENOSPC, "No space left on device", "trial/events")
        return write(self, place, tensors)

    monkeypatch.setattr(TrialWriter, "write", full)
    run = train(photos, "run")
    said = [line for line in capsys.readouterr().err.splitlines() if "watching" in line]
    assert said == [
        "debugger: watching stops, training goes on: trial/events: No space left on device"
    ]
    content = found(run)
    assert content["status"]["stopped"] == "trial/events: No space left on device"
    assert content["status"]["saved"] == {"TRAIN": 3}
    assert len(trial_of(run).moments()) == 3
    assert not trial_of(run).ended
    assert validation_losses(run) == validation_losses(default)


@pytest.mark.parametrize("failing", ["__init__", "collections", "close"])
def test_a_disk_that_fails_at_any_time_ends_only_the_watching(
    photos: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(TrialWriter, failing, full)
    run = train(photos, "run", "trainer.max_epochs=1")
    assert len(validation_losses(run)) == 1
    if failing == "close":
        assert "Read-only file system" in found(run)["status"]["stopped"]


def test_a_step_that_is_not_written_whole_is_not_there() -> None:
    from sagelight.debugging.records import Place

    writer = TrialWriter(Path("trial"))
    Path("trial/index").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="index"):
        writer.write(Place(0, "TRAIN", 0), {LOSS: np.float32(1)})
    assert not [each for each in Path("trial/events").rglob("*") if each.is_file()]


def hook_config(**content: Any) -> str:
    Path("hook.json").write_text(json.dumps(content))
    return "debugger.hook_config=hook.json"


def test_a_folder_that_holds_a_trial_is_refused(photos: Path) -> None:
    leave_steps(Path("elsewhere"), [("TRAIN", {LOSS: np.float32(1)})], {"losses": [LOSS]})
    before = contents(Trial.open(Path("elsewhere")))
    with pytest.raises(RunError, match=r"^elsewhere holds a trial already, and nothing in it is"):
        train(photos, "run", hook_config(LocalPath="elsewhere"))
    assert contents(Trial.open(Path("elsewhere"))) == before
    # Somebody else's trial is not judged as this run's.
    assert not Path("run/debugger/findings.json").exists()


def test_a_hook_configuration_decides_what_is_kept_and_where(photos: Path) -> None:
    word = hook_config(
        LocalPath="elsewhere",
        HookParameters={"save_interval": "2", "reductions": "abs_l2_norm"},
        CollectionConfigurations=[
            {"CollectionName": "weights"},
            {"CollectionName": "losses", "CollectionParameters": {"reductions": ""}},
            {
                "CollectionName": "relu_input",
                "CollectionParameters": {"include_regex": r"features\.1_input", "reductions": ""},
            },
        ],
    )
    run = train(photos, "run", word)
    trial = Trial.open(Path("elsewhere"))
    assert not (run / "debugger" / "trial").exists()
    assert found(run)["status"]["folder"] == "elsewhere"
    assert trial.steps(LOSS, "TRAIN") == trial.steps(WEIGHT, "TRAIN") == [0, 2, 4]
    assert trial.value(WEIGHT, "TRAIN", 0) is None
    assert trial.value(WEIGHT, "TRAIN", 0, "abs_l2") is not None
    whole = trial.value("backbone.features.1_input_0", "TRAIN", 0)
    assert whole is not None
    assert whole.ndim == 4
    assert not trial.names(regex="^gradient|labels")


def test_off_writes_nothing(photos: Path) -> None:
    run = train(photos, "run", "debugger=off")
    assert not (run / "debugger").exists()


@pytest.mark.parametrize("workers", ["all", "one"])
def test_a_process_alone_is_worker_0(photos: Path, workers: str) -> None:
    run = train(photos, "run", f"debugger.workers={workers}", "trainer.max_epochs=1")
    files = [each for each in (run / "debugger" / "trial").rglob("*") if each.is_file()]
    names = {each.name for each in files if each.name != "training_job_end.ts"}
    assert all("worker_0" in name for name in names)


@pytest.mark.parametrize("workers", ["all", "one"])
def test_all_processes_agree_on_when_rules_are_asked(workers: str) -> None:
    """Asking is one broadcast: a process that does not come lets the others wait for ever."""
    asked = []
    for rank in range(2):
        bridge = Bridge(DebuggerSettings(workers=workers), Path("trial"))
        trainer: Any = SimpleNamespace(
            global_rank=rank,
            world_size=2,
            is_global_zero=rank == 0,
            num_training_batches=10,
            accumulate_grad_batches=1,
        )
        model = mock.create_autospec(Classifier, instance=True)
        model.network = nn.Sequential(nn.Linear(2, 2))
        bridge.on_train_start(trainer, model)
        asked.append([])
        for number in range(12):
            batch = Batch(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2))
            bridge.on_train_batch_start(trainer, model, batch, number)
            asked[-1].append(bridge.saved_now)
            bridge._detach()
            bridge._steps["TRAIN"] += 1
    assert asked[0] == asked[1]
    assert [n for n, each in enumerate(asked[0]) if each] == [n for n in range(12) if n in EARLY]


def test_a_rule_ends_the_training_cleanly(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("run")
    words = [
        "debugger.parameters.CheckInputImages.threshold_mean=0.0",
        "debugger.parameters.CheckInputImages.threshold_samples=16",
        "debugger.actions.CheckInputImages=stop",
    ]
    with cheap_bundle():
        fitting.fit(compose([*SMALL, f"data.root={photos}", f"run_dir={run}", *words]))
    assert found(run)["stopped_by"] == "CheckInputImages"
    err = capsys.readouterr().err
    assert "CheckInputImages ends the training, as debugger.actions says" in err
    # After the second of three batches, and the validation that makes its epoch one to keep.
    assert [(m.mode, m.step) for m in trial_of(run).moments()] == [
        ("TRAIN", 0), ("TRAIN", 1), ("EVAL", 0),
    ]  # fmt: skip
    assert trial_of(run).ended
    assert len(validation_losses(run)) == 1
    for name in ("checkpoints/best.ckpt", "bundle/model.safetensors", "metrics.json"):
        assert (run / name).is_file()


def test_a_rule_that_judges_at_the_end_has_stopped_nothing(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "debugger.parameters.ClassImbalance.samples=1",
        "debugger.parameters.ClassImbalance.threshold_imbalance=1.0",
        "debugger.actions.ClassImbalance=stop",
    ]
    run = train(photos, "run", *words)
    content = found(run)
    [verdict] = [each for each in content["verdicts"] if each["name"] == "ClassImbalance"]
    assert verdict["status"] == "IssuesFound"
    assert content["stopped_by"] == ""
    err = capsys.readouterr().err
    assert "debugger: ClassImbalance: some classes" in err
    assert "ends the training" not in err


def cheap_bundle() -> Any:
    """A bundle without the seconds that model.onnx takes; nothing else of it is missing."""

    program = SimpleNamespace(
        model=SimpleNamespace(graph=[]), save=lambda path, **options: path.write_bytes(b"")
    )
    nothing = dict.fromkeys(("_prove", "explain_confused", "write_report"), lambda *_: None)
    stack = mock.patch.multiple(finishing, **nothing)
    return _Both(stack, mock.patch("torch.onnx.export", return_value=program))


class _Both:
    def __init__(self, *managers: Any) -> None:
        self._managers = managers

    def __enter__(self) -> None:
        for each in self._managers:
            each.__enter__()

    def __exit__(self, *error: Any) -> None:
        for each in self._managers:
            each.__exit__(*error)


def test_watching_changes_no_bit_of_what_is_learned(photos: Path) -> None:
    ways = {
        "neither": ["debugger=off", "profiler=off"],
        "default": ["debugger=default", "profiler=off"],
        "raw": ["debugger.raw=true", "profiler=off"],
        "profiled": ["debugger=default", "profiler=default"],
    }
    models = {}
    for name, words in ways.items():
        with cheap_bundle():
            words = [*SMALL, "model.dropout=0.2", "callbacks=ema", f"data.root={photos}", *words]
            fitting.fit(compose([*words, f"run_dir={name}"]))
        models[name] = Path(name, "bundle", "model.safetensors").read_bytes()
    assert len(set(models.values())) == 1


def test_two_megabytes_are_enough_for_a_thousand_steps() -> None:
    """Of resnet18 and batches of 32, whatever the length of an epoch."""
    photos = make_folder(Path("photos"), {"": {"blue": 100, "red": 100}})
    words = ["model=resnet18", "model.weights=none", "data.batch_size=32", "trainer.max_epochs=2"]
    run = train(photos, "run", *words)
    trial = trial_of(run)
    sizes: dict[str, float] = {}
    for moment in trial.moments():
        files = (run / "debugger" / "trial").rglob(f"{moment.global_step:012d}_worker_0.*")
        size = sum(each.stat().st_size for each in files)
        kind = "full" if WEIGHT in trial.names(moment=moment) else moment.mode
        sizes[kind] = max(size, sizes.get(kind, 0))
    assert sizes.keys() == {"full", "TRAIN", "EVAL"}
    for batches in (1000, 20):
        config = default_hook_config(DebuggerSettings(), batches)
        due = [{each.name for each in config.due("TRAIN", step)} for step in range(1000)]
        full = sum("weights" in names for names in due)
        losses = sum("losses" in names and "weights" not in names for names in due)
        total = full * sizes["full"] + losses * sizes["TRAIN"] + 1000 / batches * sizes["EVAL"]
        assert total <= 2e6, (batches, total, full, losses, sizes)

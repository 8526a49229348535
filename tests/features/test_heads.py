from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from sagelight.config.compose import compose
from sagelight.features.batching import batch_of, trains_in_batches
from sagelight.features.heads import Features, HeadTrial, train_heads
from sagelight.training.trials import Frozen, prepare_frozen, train_trial
from stories.commands import TINY

FIGURES = (
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "val/top5_accuracy",
    "val/macro_f1",
)
Rows = list[dict[str, float]]
Watch = Callable[[int, dict[str, float]], bool]
# What differs within one batch.
VARIED = [
    ["optimizer.lr=0.03"],
    ["optimizer.lr=0.001", "optimizer.weight_decay=0.3"],
    ["loss.label_smoothing=0.3", "trainer.max_epochs=5"],
    ["schedule=linear", "schedule.warmup=0.5", "trainer.max_epochs=2"],
    ["schedule=step"],
]
OTHER_ORDER = [*VARIED, ["seed=3"], ["seed=4", "optimizer.lr=0.05"]]
AVERAGED = [
    [],
    *([each, "callbacks.ema_decay=0.9"] for (each, *_) in VARIED),
    ["callbacks.ema_decay=0.5"],
]
DROPPED = [*VARIED, ["model.dropout=0.4"], ["model.dropout=0.1", "seed=5"]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights in a file: those drawn from the seed would be another backbone for each seed."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(torchvision.models.squeezenet1_1().state_dict(), path)
    return f"model.weights={path}"


@pytest.fixture
def base(photos: Path, weights: str) -> list[str]:
    return [
        *TINY,
        weights,
        f"data.root={photos}",
        "finetune=head",
        "augment=none",
        "callbacks.ema_decay=0",
        "trainer.max_epochs=3",
    ]


def go_on(number: int, row: dict[str, float]) -> bool:
    return False


def together(trials: Sequence[Sequence[str]], watch: Watch = go_on) -> list[Rows]:
    """Train heads in one pass: the figures of each of its epochs."""
    frozen = [prepare_frozen(compose(words)) for words in trials]
    rows: list[Rows] = [[] for _ in trials]

    def note(number: int, row: dict[str, float]) -> bool:
        rows[number].append(row)
        return watch(number, row)

    heads = [HeadTrial(n, each.config, each.network.head) for n, each in enumerate(frozen)]
    assert len({batch_of(compose(words)) for words in trials}) == 1
    train_heads(heads, features(frozen[0]), note)
    return rows


def features(frozen: Frozen) -> Features:
    targets = [
        torch.tensor([sample.target for sample in frozen.index.splits[split]])
        for split in ("train", "validation")
    ]
    return Features(
        frozen.served["train"].tensor(),
        targets[0],
        frozen.served["validation"].tensor()[0],
        targets[1],
        frozen.index.counts("train"),
    )


def alone(words: Sequence[str], place: int) -> Rows:
    """Train one head by Lightning: the figures of each of its epochs, unrounded."""
    rows: Rows = []

    def note(row: dict[str, float]) -> bool:
        rows.append(row)
        return False

    train_trial(compose([*words, f"run_dir=alone-{place}"]), note)
    return rows


def assert_equal(ours: Rows, theirs: Rows) -> None:
    assert [row["epoch"] for row in ours] == [row["epoch"] for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for name in FIGURES:
            assert one[name] == pytest.approx(other[name], abs=1e-5), (name, one["epoch"])


@pytest.mark.parametrize(
    ("shared", "varied"),
    [
        (["data.batch_size=23"], OTHER_ORDER),
        (["data.batch_size=9", "loss.class_weights=balanced"], DROPPED[2:]),
        (["data.sampler=balanced", "trainer.limit_train_batches=2"], VARIED),
        (["model.head_norm=none", "augment=light", "features.views=2"], OTHER_ORDER[3:]),
        (["data.batch_size=9"], AVERAGED[::2]),
        pytest.param(
            ["optimizer=sgd"],
            [
                *OTHER_ORDER[::3],
                ["optimizer.momentum=0"],
                ["optimizer.momentum=0.5", "optimizer.lr=0.1"],
            ],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["uneven", "dropout", "balanced", "views", "ema", "sgd"],
)
def test_each_head_of_a_batch_is_trained_as_it_would_be_alone(
    base: list[str], shared: list[str], varied: list[list[str]]
) -> None:
    trials = [[*base, *shared, *more] for more in varied]
    found = together(trials)
    # The losses tell the heads apart, so equality with the separate training says something.
    assert len({round(rows[-1]["train/loss"], 4) for rows in found}) > len(trials) - 2
    for place, (words, rows) in enumerate(zip(trials, found, strict=True)):
        assert_equal(rows, alone(words, place))


def test_a_limit_of_validation_holds_for_batches_too(base: list[str]) -> None:
    words = [*base, "data.eval_batch_size=2", "trainer.limit_val_batches=1"]
    if trains_in_batches(compose(words)):
        (rows,) = together([words])
        assert_equal(rows, alone(words, 0))


@pytest.mark.slow
def test_a_head_that_is_stopped_changes_no_other(base: list[str]) -> None:
    trials = [[*base, *more] for more in OTHER_ORDER]
    whole = together(trials)
    stopped = together(trials, lambda number, row: number in (0, 5) and row["epoch"] == 1)
    assert [len(rows) for rows in stopped] == [1, 3, 5, 2, 3, 1, 3]
    for ours, theirs in zip(stopped, whole, strict=True):
        assert_equal(ours, theirs[: len(ours)])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_head_that_diverges_changes_no_other(base: list[str], optimizer: str) -> None:
    trials = [[*base, f"optimizer={optimizer}", *more] for more in VARIED[:3]]
    broken = [[*base, f"optimizer={optimizer}", "optimizer.lr=1e30"]]
    whole = together(trials)
    found = together([*broken, *trials, *broken])
    assert not found[0][-1]["train/loss"] < 1e6
    for ours, theirs in zip(found[1:-1], whole, strict=True):
        assert_equal(ours, theirs)


@pytest.mark.parametrize(
    "same",
    [
        ["optimizer.lr=0.5", "optimizer.weight_decay=0.5", "optimizer.momentum=0.5"],
        ["seed=7", "model.dropout=0.5", "loss.label_smoothing=0.3"],
        ["trainer.max_epochs=9", "schedule=step", "schedule.warmup=0.2", "callbacks.ema_decay=0.9"],
        ["run_dir=elsewhere", "name=other", "hpo.max_jobs=3", "resume=off"],
    ],
)
def test_what_batches_may_differ_in_is_one_batch(base: list[str], same: list[str]) -> None:
    assert batch_of(compose([*base, *same])) == batch_of(compose(base))
    assert trains_in_batches(compose([*base, *same]))


@pytest.mark.parametrize(
    "other",
    [
        "data.batch_size=4", "data.sampler=balanced", "data.image_size=64", "data.split_seed=1", "optimizer=sgd",
        "loss.class_weights=balanced", "model.backbone=resnet18", "model.head_norm=none", "trainer.precision=bf16-mixed",
        "trainer.limit_train_batches=1", "features.dtype=float16", "augment.crop_scale=0.5",
    ],
)  # fmt: skip
def test_what_batches_share_makes_groups(base: list[str], other: str) -> None:
    assert batch_of(compose([*base, other])) != batch_of(compose(base))


@pytest.mark.parametrize(
    "more",
    [
        "finetune=full", "augment=light", "augment=mixup_cutmix", "features.cache=off",
        "callbacks.early_stopping_patience=2", "trainer.gradient_clip_val=1", "trainer.accumulate_grad_batches=2",
        "trainer.precision=16-mixed",
    ],
)  # fmt: skip
def test_what_a_batch_cannot_do_is_trained_alone(base: list[str], more: str) -> None:
    assert trains_in_batches(compose(base))
    assert not trains_in_batches(compose([*base, more]))

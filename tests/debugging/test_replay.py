from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from debugging.trainings import SMALL, changed, train, trial_of
from debugging.trials import LOSS
from sagelight.cli import main
from sagelight.debugging.replaying import replay
from sagelight.errors import DataError, RunError

LAYER = "features.6.squeeze"


def _overflow(trainer: Any, model: Any, data: Any) -> None:
    """From the second epoch on, one layer in the middle turns every number into infinity."""
    step = model.training_step

    def poisoned(batch: Any, batch_idx: int) -> Any:
        if model.current_epoch == 1:
            with torch.no_grad():
                model.network.backbone.get_submodule(LAYER).weight.fill_(torch.inf)
        return step(batch, batch_idx)

    model.training_step = poisoned


@pytest.fixture(scope="module")
def diverged(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("diverged") / "run"
    with pytest.raises(RunError) as refused:
        train(photos, str(folder), before=_overflow)
    return folder, str(refused.value)


def test_a_loss_that_is_no_number_names_its_batch_photos_and_replay(
    diverged: tuple[Path, str], photos: Path
) -> None:
    folder, said = diverged
    kept = folder / "debugger" / "replay-0.pt"
    assert said.startswith("the training loss is nan in batch 1 of epoch 2 (")
    names = said.partition("(")[2].partition(")")[0].split(", ")
    assert names[3] == "..."
    assert all((photos / name).is_file() for name in names[:3])
    assert (
        f"{kept} keeps the batch and the weights; debug replay={kept} says where it began" in said
    )
    assert kept.is_file()
    # The epoch before is safe, and nothing is half-written.
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert not [*folder.rglob("*.tmp")]


def test_its_loss_is_in_the_trial_and_a_rule_says_so(diverged: tuple[Path, str]) -> None:
    folder, _ = diverged
    trial = trial_of(folder)
    assert trial.ended
    assert trial.steps(LOSS, "TRAIN") == [0, 1, 2, 3]
    [*_, (_, loss)] = trial.series(LOSS, "TRAIN")
    assert not torch.isfinite(torch.tensor(float(loss)))
    read = json.loads((folder / "debugger" / "findings.json").read_text())
    status = {each["name"]: each["status"] for each in read["verdicts"]}
    assert status["ExplodingTensor"] == "IssuesFound"


def test_a_command_ends_with_2_and_one_message(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed(_overflow):
        assert main(["train", *SMALL, f"data.root={photos}", "run_dir=run"]) == 2
    err = capsys.readouterr().err
    [message] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "debug replay=run/debugger/replay-0.pt says where it began" in message
    assert "Traceback" not in err


def test_the_layer_and_the_weight_are_named(
    diverged: tuple[Path, str], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = diverged
    assert main(["debug", f"replay={folder}/debugger/replay-0.pt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "batch 1 of epoch 2: loss nan in training, nan now"
    files = lines[1].removeprefix("photos: ").split(", ")
    assert len(files) == 8
    assert all((photos / name).is_file() for name in files)
    assert lines[2] == f"weights that are not finite: backbone.{LAYER}.weight"
    assert lines[3].startswith(
        f"the first layer whose output is not finite: backbone.{LAYER} (Conv2d), given numbers up to "
    )


def test_a_batch_that_is_finite_again_is_said_to_be(photos: Path) -> None:
    """What overflowed was not in the network: the loss itself."""

    def spoil(trainer: Any, model: Any, data: Any) -> None:
        step = model.training_step
        model.training_step = lambda batch, batch_idx: step(batch, batch_idx) * torch.inf

    with pytest.raises(RunError, match="the training loss is inf in batch 1 of epoch 1"):
        train(photos, "run", before=spoil)
    found = replay(Path("run/debugger/replay-0.pt"))
    assert (found.epoch, found.batch, found.loss[0]) == (1, 1, float("inf"))
    assert (found.weights, found.layer) == ([], "")
    assert "every weight and output is finite now" in found.lines()[-1]


@pytest.mark.parametrize("cache", ["on", "off"])
def test_a_frozen_backbone_is_replayed_as_it_was(photos: Path, cache: str) -> None:
    """A last batch of one photo, whose BatchNorm would have no statistics if it trained."""

    def spoil(trainer: Any, model: Any, data: Any) -> None:
        nn.init.constant_(model.network.head[2].bias, torch.inf)

    words = ["model=resnet18", "model.weights=none", "finetune=head", "augment=none"]
    words += [f"features.cache={cache}", "features.folder=features", "data.batch_size=1"]
    with pytest.raises(RunError, match="training diverged"):
        train(photos, "run", *words, before=spoil)
    found = replay(Path("run/debugger/replay-0.pt"))
    assert found.weights == ["head.2.bias"]
    assert found.layer.startswith("head.2 (Linear)")


def _cut(path: Path) -> bytes:
    return path.read_bytes()[:2000]


def _changed(path: Path, **content: Any) -> bytes:
    kept = torch.load(path, weights_only=True)
    kept.update(content)
    for name in [name for name, value in content.items() if value is None]:
        del kept[name]
    torch.save(kept, "changed.pt")
    return Path("changed.pt").read_bytes()


DAMAGES: dict[str, Any] = {
    "empty": lambda path: b"",
    "text": lambda path: b"no archive",
    "cut off": _cut,
    "without a photo": lambda path: _changed(path, images=None),
    "without an epoch": lambda path: _changed(path, epoch=None),
    "photos of another size": lambda path: _changed(path, images=torch.zeros(8, 1, 1, 1, 1)),
    "labels that there are not": lambda path: _changed(path, targets=torch.full((8,), 99)),
    "another network": lambda path: _changed(path, backbone="resnet18"),
    "a network that there is not": lambda path: _changed(path, backbone="resnet19"),
    "a list": lambda path: _saved([1, 2]),
}


def _saved(content: Any) -> bytes:
    torch.save(content, "saved.pt")
    return Path("saved.pt").read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_replay_is_refused(damage: str, diverged: tuple[Path, str]) -> None:
    content = DAMAGES[damage](diverged[0] / "debugger" / "replay-0.pt")
    Path("damaged.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"^replay=damaged\.pt is no replay that can be read \("):
        replay(Path("damaged.pt"))


def test_a_replay_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["debug", "replay=none.pt"]) == 2
    assert capsys.readouterr().err.startswith("error: replay=none.pt is no replay that can be read")


class Hack:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("hacked").touch, ())


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_nothing_is_unpickled(how: str) -> None:
    if how == "pickle":
        Path("replay-0.pt").write_bytes(pickle.dumps({"network": Hack()}))
    else:
        torch.save({"network": Hack(), "images": Hack()}, "replay-0.pt")
    with pytest.raises(DataError, match="is no replay that can be read"):
        replay(Path("replay-0.pt"))
    assert not Path("hacked").exists()


def test_a_loss_that_is_looked_at_late_leaves_the_weights_as_they_were(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where a loss is looked at some steps after its own."""
    waiting = 2
    monkeypatch.setattr("sagelight.debugging.replay.can_be_late", lambda *_: True)
    monkeypatch.setattr("sagelight.debugging.arrivals.MOST", waiting)
    monkeypatch.setattr("sagelight.debugging.arrivals.Step.arrived", False)
    given: list[dict[str, torch.Tensor]] = []

    def spoil(trainer: Any, model: Any, data: Any) -> None:
        step = model.training_step

        def spoiled(batch: Any, batch_idx: int) -> Any:
            given.append({n: p.detach().clone() for n, p in model.network.named_parameters()})
            place = model.current_epoch * trainer.num_training_batches + batch_idx
            return step(batch, batch_idx) * (torch.nan if place == 3 else 1)

        model.training_step = spoiled

    with pytest.raises(RunError, match="the training loss is nan in batch 1 of epoch 2"):
        train(photos, "run", "trainer.max_epochs=3", before=spoil)
    assert len(given) == 3 + 1 + waiting
    kept = torch.load("run/debugger/replay-0.pt", weights_only=True)["network"]
    moved = [n for n in given[0] if not torch.equal(given[2][n], given[3][n])]
    assert moved
    for later in (*given[4:], kept):
        assert all(torch.equal(later[name], value) for name, value in given[3].items())

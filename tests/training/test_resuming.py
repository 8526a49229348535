"""Which of the checkpoints that a kill, a power cut or a copy in mid-writing has left leads to the right end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sagelight.training.checkpoints import KeptCheckpoint, bring_checkpoints
from sagelight.training.resuming import Found, is_whole, newest_whole
from sagelight.training.run import Run

FOLDER = Path("checkpoints")
LAST, BEST = FOLDER / "last.ckpt", FOLDER / "best.ckpt"


def leave(path: Path, step: int, best: float | None) -> None:
    """A checkpoint that knows of a best score."""
    path.parent.mkdir(exist_ok=True)
    score = None if best is None else torch.tensor(best)
    states = {
        "ModelCheckpoint best": {"monitor": "val/loss", "best_model_score": score},
        "ModelCheckpoint last": {"monitor": None, "best_model_score": torch.tensor(9.0)},
        "EpochTable": {"rows": []},
    }
    weights = {"weight": torch.arange(5000.0)}
    torch.save({"state_dict": weights, "global_step": step, "callbacks": states}, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def blank(path: Path) -> None:
    """A block of zeros in the middle, as of a file whose size was written and whose content was not."""
    content = path.read_bytes()
    path.write_bytes(content[:8192] + bytes(4096) + content[12288:])


HARMS = pytest.mark.parametrize("harm", [cut, empty, blank, Path.unlink])


def test_the_newest_one_where_all_is_well() -> None:
    assert newest_whole(FOLDER) == Found(None)
    leave(LAST, 2, None)
    assert newest_whole(FOLDER) == Found(LAST)
    # The best one is written first: a kill in between leaves it ahead.
    leave(BEST, 6, 0.5)
    assert newest_whole(FOLDER) == Found(LAST)
    leave(LAST, 12, 0.5)
    assert newest_whole(FOLDER) == Found(LAST)


@HARMS
def test_a_damaged_last_one_gives_way_to_the_best_one(harm: Callable[[Path], None]) -> None:
    leave(BEST, 6, 0.5)
    leave(LAST, 12, 0.5)
    harm(LAST)
    assert not is_whole(LAST)
    found = newest_whole(FOLDER)
    assert found.checkpoint == BEST
    what = "cut off or damaged" if LAST.exists() else "missing"
    assert found.why == f"last.ckpt is {what}, so training goes on from the best epoch"


@HARMS
def test_without_the_best_one_the_last_one_would_end_otherwise(
    harm: Callable[[Path], None],
) -> None:
    leave(BEST, 6, 0.5)
    leave(LAST, 12, 0.5)
    harm(BEST)
    found = newest_whole(FOLDER)
    assert found.checkpoint is None
    assert "no other checkpoint is whole, so training starts anew" in found.why


def test_a_best_one_of_an_older_copy_is_gone_on_from() -> None:
    leave(BEST, 6, 0.5)
    leave(LAST, 18, 0.4)
    found = newest_whole(FOLDER)
    assert found.checkpoint == BEST
    assert found.why.startswith("best.ckpt is not the one that last.ckpt was written with")


def test_two_damaged_ones_start_anew() -> None:
    for path in (BEST, LAST):
        leave(path, 6, 0.5)
        blank(path)
    assert newest_whole(FOLDER).checkpoint is None


@pytest.mark.parametrize(("score", "brought"), [(0.5, True), (0.4, False)])
def test_the_best_one_comes_along_into_another_folder(score: float, brought: bool) -> None:
    leave(BEST, 6, 0.5)
    leave(LAST, 12, score)
    run = Run(Path("new"), LAST)
    bring_checkpoints(run)
    assert run.best.is_file() == brought
    assert not brought or run.best.read_bytes() == BEST.read_bytes()


def test_a_run_that_goes_on_from_its_best_one_has_it_for_the_last_one(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.best.parent.mkdir()
    leave(run.best, 6, 0.5)
    last = run.best.with_name(LAST.name)
    last.write_bytes(b"cut off")
    bring_checkpoints(Run(tmp_path, run.best))
    assert last.read_bytes() == run.best.read_bytes()


def test_a_moved_folder_still_knows_its_best_score() -> None:
    state = {
        "dirpath": "/gone/checkpoints",
        "monitor": "val/loss",
        "best_model_score": torch.tensor(0.5),
        "best_model_path": "/gone/checkpoints/best.ckpt",
        "best_k_models": {"/gone/checkpoints/best.ckpt": torch.tensor(0.5)},
        "kth_best_model_path": "/gone/checkpoints/best.ckpt",
        "kth_value": torch.tensor(0.5),
        "last_model_path": "",
    }
    leave(BEST, 6, 0.5)
    callback = KeptCheckpoint(FOLDER, filename="best", monitor="val/loss")
    assert callback.state_key.startswith("ModelCheckpoint{")
    here = str(callback.dirpath)
    callback.load_state_dict(state)
    assert callback.best_model_score == 0.5
    assert list(callback.best_k_models) == [f"{here}/best.ckpt"]
    assert callback.kth_best_model_path == callback.best_model_path == f"{here}/best.ckpt"

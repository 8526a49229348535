"""What goes wrong in the first ten minutes: exit 2, one message, nothing half-written."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torchvision
from safetensors.torch import save_file

from images import make_folder
from sagelight.cli import main
from sagelight.data.index import index_images
from stories.commands import LOCAL, TINY, losses, refused, run


def train(*words: str) -> list[str]:
    return ["train", *TINY, "trainer.max_epochs=1", *words]


@pytest.mark.parametrize(
    ("layout", "part"),
    [
        (None, "data.root=here does not exist. Type data.root=DIR"),
        ({}, "data.root=here holds no class folders. Expected here/CLASS/photo.jpg"),
        ({"": {"cat": 3}}, "data.root=here has one class, cat: a classifier needs two."),
        ({"": {"cat": 0, "dog": 0}}, "but no images in them"),
        (
            {"train": {"cat": 6, "dog": 6}, "validation": {"cat": 2}, "test": {"cat": 2, "dog": 2}},
            "without validation",
        ),
    ],
)
def test_folders_that_cannot_be_trained_on(
    layout: dict[str, dict[str, int]] | None, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if layout is not None:
        make_folder(Path("here"), layout)
        for classes in layout.values():
            for name in classes:
                Path("here", name if "" in layout else f"train/{name}").mkdir(
                    parents=True, exist_ok=True
                )
        Path("here").mkdir(exist_ok=True)
    assert part in refused(capsys, *train("data.root=here"))
    assert not Path("runs").exists()


def test_no_root_says_which_photos(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *train())
    assert message.startswith("data.root is not set: which photos? Type data.root=DIR")


def test_weights_of_another_network(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(torchvision.models.resnet18().state_dict(), "resnet.safetensors")
    message = refused(capsys, *train(f"data.root={photos}", "model.weights=resnet.safetensors"))
    assert "belongs to another network than model.backbone=squeezenet1_1" in message
    assert not Path("runs").exists()


def test_unknown_backbone(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *train(f"data.root={photos}", "model.backbone=squeezenet"))
    assert message == (
        "model.backbone=squeezenet: torchvision has no such network. "
        "Did you mean squeezenet1_1 or squeezenet1_0?"
    )


def test_batch_larger_than_the_data(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *train(f"data.root={photos}", "data.batch_size=64"))
    assert "data.batch_size=64 is larger than the 24 training photos" in message
    assert not Path("runs").exists()


def test_no_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "train", "trainer.max_epochs=0")
    assert message == "trainer.max_epochs=0: must be at least 1. The default is 10."


def test_read_only_run_directory(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *train(f"data.root={photos}", "run_dir=/proc/run"))
    assert message.startswith("run_dir=/proc/run cannot be written: ")


def test_full_disk_leaves_a_run_that_continues(photos: Path) -> None:
    """A limit on file sizes stands for the full disk: the first checkpoint cannot be written."""
    words = ["train", *TINY, f"data.root={photos}", "trainer.max_epochs=1", "run_dir=run"]

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(
        [sys.executable, str(LOCAL), *words], capture_output=True, text=True, preexec_fn=small_disk
    )
    assert done.returncode == 2
    assert "could not be written: File too large" in done.stderr
    assert "repeat the same command to continue" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(Path("run").rglob("*.tmp"))
    assert not list(Path("run").rglob("*.ckpt"))
    assert run(*words) == 0


def damaged(photos: Path, split: str = "train") -> Path:
    """A copy of the photos in which one of a split is whole by header and tail, but not between."""
    root = Path("damaged")
    shutil.copytree(photos, root)
    paths = [sample.path for sample in index_images(root).splits[split]]
    victim = root / next(path for path in paths if path.endswith(".png"))
    content = bytearray(victim.read_bytes())
    pixels = content.index(b"IDAT") + 4
    content[pixels + 10 : pixels + 60] = bytes(50)
    victim.write_bytes(content)
    return victim


def test_photo_that_breaks_in_mid_training_is_named_and_left_out(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = damaged(photos)
    words = train("data.root=damaged", "check=off", "trainer.max_epochs=2", "run_dir=run")
    assert run(*words) == 0
    err = capsys.readouterr().err
    assert err.count(f"left out: {victim.relative_to('damaged').as_posix()} cannot be read") == 1
    assert len(losses(Path("run"))) == 2


def test_test_photo_that_cannot_be_read_is_named(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = damaged(photos, "test")
    assert run(*train("data.root=damaged", "check=off")) == 0
    name = victim.relative_to("damaged").as_posix()
    assert capsys.readouterr().err.count(f"left out: {name} cannot be read") == 1


def test_strict_names_it_and_stops(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    victim = damaged(photos)
    message = refused(capsys, *train("data.root=damaged"))
    assert victim.name in message
    assert "check=warn" in message


def test_warn_trains_without_unreadable_photos(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path("some")
    shutil.copytree(photos, root)
    (root / "red" / "zzz.jpg").write_bytes(b"")
    assert "zzz.jpg" in refused(capsys, *train("data.root=some"))
    assert run(*train("data.root=some", "check=warn")) == 0
    assert "zzz.jpg" in capsys.readouterr().err


def test_divergence_is_told(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = train(
        f"data.root={photos}", "optimizer=sgd", "optimizer.lr=1e30", "trainer.max_epochs=3"
    )
    assert main(list(words)) == 2
    *findings, message = capsys.readouterr().err.splitlines()
    # What the rules had said while training went on.
    assert all(line.startswith("debugger: ") for line in findings)
    assert message.startswith("error: ")
    assert "training diverged" in message
    assert "smaller optimizer.lr" in message


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["trian"], "trian: no such command. Did you mean train?"),
        (["--verbose"], "--verbose: no such option."),
        (["-m", "run_dir=a,b"], "this does not change what a network learns"),
        (["hpo=true", "hpo.backend=tuner"], "hpo.backend=tuner is for SageMaker."),
        (["--config-from"], "needs a file"),
        (["evaluate"], "evaluate needs bundle."),
        (["predict", "input=x"], "bundle"),
        (["predict", "bundle=none", "input=no.jpg"], "no.jpg"),
    ],
)
def test_commands_that_are_no_commands(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(capsys, *words)

"""Nothing that comes in through any door is unpickled: each is shown a file that would leave a mark if it were."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision

from bundles import make_bundle, photo
from hostile import FORMS, Evil
from sagelight.data.shards.archives import pack_arrays
from sagelight.data.shards.index import read_index
from sagelight.debugging.replaying import replay
from sagelight.errors import BundleError, DataError, RunError, SagelightError, WeightsError
from sagelight.explaining.rebuilt import rebuild_network
from sagelight.models.backbones import build_backbone
from sagelight.models.weights import load_weights
from sagelight.processes import Processes
from sagelight.serving.predictor import Predictor
from sagelight.training.checkpoints import AtomicCheckpointIO, read_checkpoint
from stories.commands import TINY, refused

MARKER = Path("owned")


@pytest.fixture(params=FORMS)
def hostile(request: pytest.FixtureRequest) -> bytes:
    return FORMS[request.param](Evil(MARKER))


@pytest.fixture(autouse=True)
def _nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> Any:
    # PyTorch's way to switch its own protection off; whoever asks for it by name must not be moved by it.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    yield
    assert not MARKER.exists()


def default_weights(path: Path) -> None:
    """As if somebody had put it where torchvision's weights are kept."""
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url
    place = Path("hub/hub/checkpoints") / Path(url).name
    place.parent.mkdir(parents=True)
    path.rename(place)
    load_weights(build_backbone("squeezenet1_1", 64, True), "squeezenet1_1", "default", 64)


def weights(path: Path) -> None:
    load_weights(build_backbone("squeezenet1_1", 64, True), "squeezenet1_1", str(path), 64)


def safetensors(path: Path) -> None:
    weights(path.rename("weights.safetensors"))


def checkpoint(path: Path) -> None:
    """What Lightning does with resume=PATH, and with the checkpoint that a job's folder holds."""
    AtomicCheckpointIO(Processes()).load_checkpoint(path, weights_only=False)


def tensors_of_a_bundle(path: Path) -> None:
    make_bundle(Path("bundle"))
    path.rename("bundle/model.safetensors")
    rebuild_network(Path("bundle"), Predictor.load(Path("bundle"), threads=1))


def graph_of_a_bundle(path: Path) -> None:
    make_bundle(Path("bundle"))
    path.rename("bundle/model.onnx")
    Predictor.load(Path("bundle"), threads=1)


def index_of_shards(path: Path) -> None:
    read_index(path.read_bytes(), "shards")


DOORS: list[tuple[Callable[[Path], Any], type[SagelightError]]] = [
    (default_weights, WeightsError),
    (weights, WeightsError),
    (safetensors, WeightsError),
    (checkpoint, RunError),
    (read_checkpoint, RunError),
    (replay, DataError),
    (tensors_of_a_bundle, BundleError),
    (graph_of_a_bundle, BundleError),
    (index_of_shards, DataError),
]


@pytest.mark.parametrize(("door", "error"), DOORS, ids=lambda value: value.__name__)
def test_a_pickle_is_refused_in_words(
    door: Callable[[Path], Any],
    error: type[SagelightError],
    hostile: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", "hub")
    path = Path("hostile.pth")
    path.write_bytes(hostile)
    with pytest.raises(error, match=r"Type |Only tensors|again"):
        door(path)


@pytest.mark.parametrize("column", ["facts", "paths", "shard"])
def test_objects_in_the_index_of_shards_are_refused(column: str) -> None:
    names = ("facts", "paths", "split", "target", "shard", "offset", "size")
    arrays: dict[str, Any] = {name: np.zeros(1) for name in names}
    arrays["facts"] = np.frombuffer(b'{"format": 1, "shards": []}', np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | {column: np.array([Evil(MARKER)], dtype=object)})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"index.npz is damaged \(Object arrays cannot be loaded"):
        read_index(buffer.getvalue(), "shards")
    assert pack_arrays({"a": np.zeros(1)})


def test_resume_from_a_strangers_file(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("stranger.ckpt").write_bytes(FORMS["zip, deep inside"](Evil(MARKER)))
    words = ["train", *TINY, f"data.root={photos}", "trainer.max_epochs=1", "run_dir=run"]
    message = refused(capsys, *words, "resume=stranger.ckpt")
    assert message.startswith("stranger.ckpt is no checkpoint that can be read (")
    assert message.endswith("Type resume=off to start anew.")


def test_the_code_in_a_bundle_is_not_run_here(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "code" / "inference.py").write_text(f"open({str(MARKER)!r}, 'w')")
    photo("red").save("red.png")
    [answer] = Predictor.load(bundle, threads=1).predict([Path("red.png")])
    assert answer.label == "red"


@pytest.mark.parametrize("place", ["../secret.bin", "{}/secret.bin"])
def test_a_graph_reads_no_file_outside_of_its_bundle(tmp_path: Path, place: str) -> None:
    """ONNX lets weights lie in other files; ONNX Runtime must not follow one that leads out."""
    bundle = make_bundle(tmp_path / "bundle")
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    graph = onnx.load(bundle / "model.onnx")
    tensor = next(each for each in graph.graph.initializer if each.name == "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": place.format(tmp_path), "length": "36"}.items():
        tensor.external_data.add(key=key, value=value)
    (bundle / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(BundleError, match="xternal data"):
        Predictor.load(bundle, threads=1)


@pytest.mark.parametrize("address", ["local://{}", "file://{}", "{}/../{}", "{}"])
def test_no_file_is_removed_because_a_checkpoint_names_it(tmp_path: Path, address: str) -> None:
    """Lightning removes the best checkpoint so far by the path that it has read in a checkpoint."""
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "photo.jpg").touch()
    AtomicCheckpointIO(Processes()).remove_checkpoint(address.format(precious, precious.name))
    assert (precious / "photo.jpg").exists()


def test_the_mark_would_be_left() -> None:
    """Each of these files does harm where it is read without care; otherwise the tests above would say nothing."""
    for name, form in FORMS.items():
        content = io.BytesIO(form(Evil(MARKER)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name == "numpy":
                np.load(content, allow_pickle=True)
            elif "pickle" in name:
                pickle.load(content)
            elif name != "script":
                torch.load(content, weights_only=False)
        assert MARKER.exists() or name == "script", name
        MARKER.unlink(missing_ok=True)

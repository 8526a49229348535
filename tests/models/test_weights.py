from __future__ import annotations

import hashlib
import io
import pickle
import urllib.error
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from sagelight.errors import WeightsError
from sagelight.models import weights
from sagelight.models.backbones import Backbone, build_backbone
from sagelight.models.network import Network
from sagelight.models.settings import ModelSettings
from sagelight.models.weights import load_weights


@pytest.fixture(scope="module")
def original() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = torchvision.models.squeezenet1_1().state_dict()
    return state


@pytest.fixture
def backbone() -> Backbone:
    return build_backbone("squeezenet1_1", 64, True)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_file_fills_the_backbone(
    tmp_path: Path, original: dict[str, torch.Tensor], backbone: Backbone, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(original, path) if suffix == ".safetensors" else torch.save(original, path)
    load_weights(backbone, "squeezenet1_1", str(path), 64)
    for key, value in backbone.module.state_dict().items():
        assert torch.equal(value, original[key])


def test_weights_of_our_own_bundle_start_the_next_run(tmp_path: Path) -> None:
    first = Network(ModelSettings("squeezenet1_1", "none"), 3, 64, (0.0,) * 3, (1.0,) * 3)
    path = tmp_path / "model.safetensors"
    save_file(first.state_dict(), path)
    second = Network(ModelSettings("squeezenet1_1", str(path)), 7, 64, (0.0,) * 3, (1.0,) * 3)
    for key, value in second.backbone.state_dict().items():
        assert torch.equal(value, first.backbone.state_dict()[key])


def test_another_network_is_refused_by_its_keys(tmp_path: Path, backbone: Backbone) -> None:
    path = tmp_path / "resnet.safetensors"
    save_file(torchvision.models.resnet18().state_dict(), path)
    with pytest.raises(WeightsError) as refusal:
        load_weights(backbone, "squeezenet1_1", str(path), 64)
    message = str(refusal.value)
    assert message.startswith(
        f"model.weights={path} belongs to another network than model.backbone="
    )
    assert "52 missing" not in message
    assert "features.0.weight" in message
    assert "layer1.0" in message or "bn1.weight" in message
    assert "Type the model.backbone" in message


def test_other_shapes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "resnet34.pth"
    torch.save(torchvision.models.wide_resnet50_2().state_dict(), path)
    with pytest.raises(WeightsError, match=r"of another shape \(layer1.0.conv1.weight has shape"):
        load_weights(build_backbone("resnet50", 64, True), "resnet50", str(path), 64)


def test_missing_file(backbone: Backbone) -> None:
    with pytest.raises(WeightsError, match=r"^model.weights=no.pth: no such file\. Type"):
        load_weights(backbone, "squeezenet1_1", "no.pth", 64)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("owned"),)  # type: ignore[return-value]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps(Evil()), b"\xff" * 4096])
def test_other_files_are_refused_and_never_unpickled(
    tmp_path: Path, backbone: Backbone, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"cannot be read as a state dict|holds no state dict"):
        load_weights(backbone, "squeezenet1_1", str(path), 64)
    assert not Path("owned").exists()


def test_whole_model_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match=r"save model.state_dict\(\)"):
        load_weights(backbone, "squeezenet1_1", str(path), 64)


def test_torchvision_weights_without_network_say_which_file_goes_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(WeightsError) as refusal:
        load_weights(build_backbone("resnet18", 64, True), "resnet18", "default", 64)
    target = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    assert f"Put resnet18-f37072fd.pth at {target}, or type model.weights=PATH" in str(
        refusal.value
    )


def test_torchvision_weights_in_the_cache_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original: dict[str, torch.Tensor]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    enum = torchvision.models.get_model_weights("squeezenet1_1")
    cached = tmp_path / "hub" / "checkpoints" / Path(enum.DEFAULT.url).name
    cached.parent.mkdir(parents=True)
    torch.save(original, cached)
    backbone = build_backbone("squeezenet1_1", 64, True)
    load_weights(backbone, "squeezenet1_1", "default", 64)
    assert torch.equal(
        backbone.module.state_dict()["features.0.weight"], original["features.0.weight"]
    )


@pytest.mark.parametrize("honest", [True, False])
def test_torchvision_weights_are_downloaded_whole_or_not_at_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    original: dict[str, torch.Tensor],
    capsys: pytest.CaptureFixture[str],
    honest: bool,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    buffer = io.BytesIO()
    torch.save(original, buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content if honest else b"others").hexdigest()[:8]

    class Newest:
        url = f"https://host.invalid/models/net-{digest}.pth"

    monkeypatch.setattr(weights, "get_model_weights", lambda name: SimpleNamespace(DEFAULT=Newest))

    class Answer(io.BytesIO):
        def info(self) -> Message:
            return Message()

    monkeypatch.setattr("torch.hub.urlopen", lambda request: Answer(content))
    place = tmp_path / "hub" / "checkpoints"
    if honest:
        found = weights.cached_default_weights("net")
        assert found.read_bytes() == content
    else:
        with pytest.raises(WeightsError, match=r"could not be downloaded \(invalid hash value"):
            weights.cached_default_weights("net")
        assert list(place.iterdir()) == []
    # The launcher of jobs reads what `default_weights` prints.
    assert capsys.readouterr().out == ""


def test_position_embeddings_are_fitted_to_the_image_size(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    small = torchvision.models.vit_b_32(image_size=64)
    save_file(small.state_dict(), path)
    network = Network(ModelSettings("vit_b_32", str(path)), 3, 96, (0.0,) * 3, (1.0,) * 3).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 96, 96, dtype=torch.uint8)).shape == (1, 3)

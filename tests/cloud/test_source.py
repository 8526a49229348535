from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from sagelight.cloud import source
from sagelight.cloud.source import pack_source
from sagelight.errors import CloudError


def names(archive: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return set(tar.getnames())


def checkout(root: Path) -> Path:
    package = root / "src" / "sagelight"
    for path in (
        "src/sagelight/__init__.py",
        "conf/train.yaml",
        ".env",
        "src/sagelight/secret.pem",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run(["git", "-C", str(root), "add", "src/sagelight/__init__.py", "conf"], check=True)
    return package


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = checkout(tmp_path)
    monkeypatch.setattr(source, "_package", lambda: package)
    monkeypatch.setattr(source, "conf_dir", lambda: tmp_path / "conf")
    return tmp_path


def test_only_tracked_source_goes_up(small: Path) -> None:
    packed = pack_source()
    assert names(packed.archive) == {
        "sagelight_job.py",
        "requirements.txt",
        "src/sagelight/__init__.py",
        "conf/train.yaml",
    }
    assert packed.files == 4
    # A new module would be missed in the job, so the plan names it.
    assert packed.left_out == ("sagelight/secret.pem",)


def test_equal_files_give_equal_bytes_and_others_do_not(small: Path) -> None:
    first = pack_source()
    (small / "src" / "sagelight" / "__init__.py").touch()
    assert pack_source() == first
    (small / "src" / "sagelight" / "__init__.py").write_text("y")
    assert pack_source().digest != first.digest


def test_an_installed_package_is_packed_by_its_files(small: Path) -> None:
    (small / ".git").rename(small / "no-git")
    (small / "src" / "sagelight" / "new.py").touch()
    assert "src/sagelight/new.py" in names(pack_source().archive)


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize(
    "name",
    [".env", ".git-credentials", ".netrc", ".aws/credentials", "id_rsa", "key.pem", ".a/b.py"],
)
def test_what_holds_secrets_stays_here_even_when_git_tracks_it(
    small: Path, name: str, tracked: bool
) -> None:
    path = small / "src" / "sagelight" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    if tracked:
        subprocess.run(["git", "-C", str(small), "add", "--force", str(path)], check=True)
    else:
        (small / ".git").rename(small / "no-git")
    packed = pack_source()
    assert f"src/sagelight/{name}" not in names(packed.archive)
    assert f"sagelight/{name}" in packed.left_out


def test_source_with_a_secret_in_it_is_refused_by_name(small: Path) -> None:
    secret = "AKIA" + "A1B2" * 4
    (small / "src" / "sagelight" / "__init__.py").write_text(f"KEY = '{secret}'")
    with pytest.raises(
        CloudError, match=r"__init__.py holds what looks like an access key of AWS"
    ) as refusal:
        pack_source()
    assert secret not in str(refusal.value)


def test_a_file_that_is_no_source_is_refused_by_name(small: Path) -> None:
    big = small / "src" / "sagelight" / "weights.json"
    with big.open("wb") as file:
        # A sparse file: five gigabytes that take no room.
        file.truncate(5_000_000_000)
    subprocess.run(["git", "-C", str(small), "add", "--intent-to-add", str(big)], check=True)
    with pytest.raises(
        CloudError, match=r"weights.json has 5,000 MB, and only source goes into a job"
    ):
        pack_source()


def test_the_real_source_holds_what_a_job_needs() -> None:
    packed = pack_source()
    found = names(packed.archive)
    assert {
        "src/sagelight/training/fit.py",
        "conf/train.yaml",
        "conf/experiment/resnet50.yaml",
    } <= found
    assert not any("tests" in name or "__pycache__" in name for name in found)
    with tarfile.open(fileobj=io.BytesIO(packed.archive)) as tar:
        file = tar.extractfile("requirements.txt")
        assert file is not None
        lines = file.read().decode().splitlines()
    pinned = {line.partition("==")[0] for line in lines}
    assert {"pytorch-lightning", "hydra-core"} <= pinned
    assert not {"torch", "torchvision"} & pinned


def test_an_experiment_of_ones_own_travels(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text("seed: 3\n")
    packed = pack_source({"best.yaml": tmp_path / "best.yaml"})
    assert "experiments/best.yaml" in names(packed.archive)

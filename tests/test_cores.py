"""Cores that this process may use, inside a container too."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagelight.cores import quota


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_a_containers_quota_limits_the_cores(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert quota(tmp_path) == cores


def test_without_a_quota_all_cores_count(tmp_path: Path) -> None:
    everything = quota(tmp_path)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert quota(tmp_path) == everything >= 1

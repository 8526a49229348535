"""The SBOM lists what is installed, and refuses what is not what is pinned."""

from __future__ import annotations

import sys
from pathlib import Path

import sbom
from sbom import differences, pinned, releases

HASH = "0" * 64


def test_components_are_named_as_an_index_names_them() -> None:
    bom = {"components": [{"name": "typing_extensions", "version": "4.16.0"}]}
    assert releases(bom) == {("typing-extensions", "4.16.0")}


def test_markers_are_those_of_the_python_that_is_described() -> None:
    path = Path("locked.txt")
    path.write_text(
        f"one==1.0 ; sys_platform == '{sys.platform}' \\\n    --hash=sha256:{HASH}\n"
        f"two==2.0 ; sys_platform == 'win32' and python_version < '3' \\\n    --hash=sha256:{HASH}\n"
    )
    assert pinned(sys.executable, path) == {("one", "1.0")}


def test_more_less_and_other_than_pinned_are_told_apart() -> None:
    wanted = {("numpy", "2.4.6"), ("pillow", "13.0.0")}
    installed = {("numpy", "2.4.6"), ("pillow", "12.0.0"), ("extra", "1.0"), ("sagelight", "0.1.0")}
    assert differences(installed | {("pip", "26.3")}, wanted) == [
        "extra 1.0 is installed and not pinned",
        "pillow 12.0.0 is installed and not pinned",
        "pillow 13.0.0 is pinned and not installed",
    ]
    assert differences(wanted | {("sagelight", "0.1.0")}, wanted) == []


def test_paths_of_this_machine_are_left_out() -> None:
    here = [{"type": "distribution", "url": "file:///somewhere/sagelight.whl"}]
    there = [{"type": "website", "url": "x"}]
    both = {"name": "a", "version": "1", "externalReferences": here + there}
    bom = sbom.portable({"components": [both, {"name": "b", "version": "1"}]})
    assert [c.get("externalReferences") for c in bom["components"]] == [there, None]

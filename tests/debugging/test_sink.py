"""The debugger's settings that are refused before a training is begun."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from stories.commands import ROOT, TINY, refused

WORDS = ["train", *TINY, "run_dir=run", "debugger=smdebug"]


def test_one_file_alone_imports_smdebug() -> None:
    # As a statement, or by import_module.
    imports = re.compile(r"""^\s*(?:import|from) smdebug\b|import_module\(f?["']smdebug\b""", re.M)
    sources = (ROOT / "src").rglob("*.py")
    assert [path.name for path in sources if imports.search(path.read_text())] == [
        "smdebug_sink.py"
    ]


def test_smdebugs_environment_puts_no_other_version_over_one_of_ours() -> None:
    ours, over = [
        dict(
            line.partition(";")[0].split("==")
            for line in (ROOT / "requirements" / name).read_text().splitlines()
            if line and not line.startswith("#")
        )
        for name in ("constraints.txt", "smdebug.txt")
    ]
    assert {name for name in over if name not in ours} == {"smdebug", "pyinstrument"}
    assert {name: over[name] for name in over if name in ours} == {
        name: ours[name] for name in over if name in ours
    }


@pytest.mark.skipif(importlib.util.find_spec("smdebug") is not None, reason="smdebug is installed")
def test_smdebug_that_is_not_installed_is_refused_before_anything_is_written(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, *WORDS, f"data.root={photos}")
    assert message == (
        "debugger=smdebug needs smdebug 1.0.34, which cannot be imported: No module named 'smdebug'. "
        "Type make smdebug, then run with .venv-smdebug/bin/python; or debugger=default, which needs nothing."
    )
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("save_interval", "__import__('pathlib').Path('owned').touch() or 1"),
        ("save_steps", "range(10)"),
        ("train.end_step", "1 + 1"),
        ("reductions", "mean and __import__('os')"),
    ],
)
def test_a_hook_configuration_of_expressions_is_refused_before_smdebug_sees_it(
    name: str, value: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = {"CollectionName": "weights", "CollectionParameters": {name: value}}
    Path("hook.json").write_text(json.dumps({"CollectionConfigurations": [collection]}))
    words = [*WORDS, f"data.root={photos}", "debugger.hook_config=hook.json"]
    message = refused(capsys, *words)
    assert message.startswith("debugger.hook_config=hook.json: ")
    assert value.split()[0] in message
    assert not Path("run").exists()
    assert not Path("owned").exists()

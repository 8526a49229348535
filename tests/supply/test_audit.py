"""The audit finds what is known, and says so where it could not look."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import audit
from advisories import read_advisories
from audit import CANARY, FOUND, UNANSWERED, Unanswered, read_answer
from locked import LOCKED, Pin, read_pins

TODAY = datetime.now(UTC)
PINS = [Pin(Requirement("torch==2.14.1"), ("0" * 64,)), Pin(Requirement("Jinja2==3.1.6"), ())]


def advisory(name: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    """An advisory in OSV's format, changed today."""
    affected = {
        "package": {"ecosystem": "PyPI", "name": name},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
    }
    return {"id": f"PYSEC-{name}", "modified": TODAY.isoformat(), "affected": [affected], **more}


def write(*advisories: dict[str, Any]) -> Path:
    """A folder of advisories, the first as JSON and the others as YAML."""
    folder = Path("advisories")
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(advisories):
        path = folder / f"{number}.{'yaml' if number else 'json'}"
        path.write_text(yaml.safe_dump(content) if number else json.dumps(content))
    return folder


CANARYS = advisory("Jinja2", {"introduced": "0"}, {"fixed": "3.1.3"}, aliases=["CVE-2024-22195"])


def test_a_pin_with_a_known_vulnerability_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [torch] = [pin.version for pin in read_pins(LOCKED / "dev.txt") if pin.name == "torch"]
    folder = write(CANARYS, advisory("torch", {"introduced": "2.0"}, {"last_affected": torch}))
    monkeypatch.setattr("sys.argv", ["audit.py", f"advisories={folder}"])
    assert audit.main() == FOUND
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"torch {torch}: PYSEC-torch"
    assert "pins looked up in advisories: 1 with a known vulnerability" in shown[1]


def test_pins_that_nothing_is_known_of_end_with_zero(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["audit.py", f"advisories={write(CANARYS)}"])
    assert audit.main() == 0
    assert "advisories: none with a known vulnerability" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "holds no advisory about a Python package"),
        (advisory("torch", {"introduced": "0"}), "knows nothing of jinja2==3.1.2"),
        (
            CANARYS | {"modified": (TODAY - timedelta(days=31)).isoformat()},
            "30 days is the oldest that counts",
        ),
    ],
    ids=["empty", "ignorant", "old"],
)
def test_a_folder_that_cannot_know_is_no_audit(
    content: dict[str, Any] | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write(*([content] if content else []))
    monkeypatch.setattr("sys.argv", ["audit.py", f"advisories={folder}"])
    assert audit.main() == UNANSWERED
    shown = capsys.readouterr().out
    assert shown.startswith("NOT AUDITED: ")
    assert reason in shown


@pytest.mark.parametrize(
    ("events", "version", "hit"),
    [
        ([{"introduced": "0"}, {"fixed": "1.2"}], "1.1.9", True),
        ([{"introduced": "0"}, {"fixed": "1.2"}], "1.2", False),
        ([{"introduced": "1.0"}, {"last_affected": "1.2"}], "1.2", True),
        ([{"introduced": "1.0"}, {"last_affected": "1.2"}], "1.2.1", False),
        ([{"introduced": "1.0"}], "0.9", False),
        ([{"introduced": "1.0"}], "7.0", True),
        ([{"fixed": "2.0.1"}, {"introduced": "2.0"}, {"fixed": "1.1"}, {"introduced": "1.0"}], "1.5", False),
        ([{"fixed": "2.0.1"}, {"introduced": "2.0"}, {"fixed": "1.1"}, {"introduced": "1.0"}], "2.0", True),
        ([{"introduced": "1.0rc1"}, {"fixed": "1.0"}], "1.0rc2", True),
        ([{"introduced": "1.0"}, {"fixed": "no version"}], "3.0", True),
    ],
)  # fmt: skip
def test_ranges_are_read_as_osv_means_them(
    events: list[dict[str, str]], version: str, hit: bool
) -> None:
    found = read_advisories(write(advisory("zope.event", *events))).about("zope-event", version)
    assert found == (["PYSEC-zope.event"] if hit else [])


def test_listed_versions_count_and_withdrawn_advisories_do_not() -> None:
    listed = advisory("click", aliases=["CVE-1"])
    listed["affected"][0]["versions"] = ["8.0"]
    gone = advisory("rich", {"introduced": "0"}, withdrawn="2026-01-01T00:00:00Z")
    elsewhere = advisory("idna", {"introduced": "0"})
    elsewhere["affected"][0]["package"]["ecosystem"] = "npm"
    found = read_advisories(write(listed, gone, elsewhere))
    assert found.about("click", "8.0") == ["PYSEC-click CVE-1"]
    assert (
        found.about("click", "8.1") == found.about("rich", "1.0") == found.about("idna", "1") == []
    )


def answer(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(dependencies), "fixes": []})


def test_pip_audits_answer_is_read() -> None:
    vulnerability = {"id": "PYSEC-1", "fix_versions": [], "aliases": ["CVE-1"]}
    output = answer(
        {"name": "torch", "version": "2.14.1", "vulns": [vulnerability]},
        {"name": "jinja2", "version": "3.1.6", "vulns": []},
    )
    assert read_answer("pypi", output, "", PINS) == {("torch", "2.14.1"): ["PYSEC-1 CVE-1"]}


@pytest.mark.parametrize(
    ("output", "errors", "reason"),
    [
        # What pip-audit 2.10 says, with status 0, where the index has no JSON.
        (
            answer({"name": "torch", "skip_reason": "Dependency not found on PyPI"}),
            "No known vulnerabilities found",
            "pypi skipped 2 of 2. Dependency not found on PyPI",
        ),
        (answer({"name": "torch", "version": "2.14.1", "vulns": []}), "", "pypi skipped 1 of 2"),
        ("", "Traceback\nConnectionError: nobody\n", "pypi: ConnectionError: nobody"),
        ("", "", "pypi: it said nothing"),
    ],
    ids=["skipped", "one missing", "unreachable", "silent"],
)
def test_what_was_skipped_was_not_looked_up(output: str, errors: str, reason: str) -> None:
    with pytest.raises(Unanswered, match=reason):
        read_answer("pypi", output, errors, PINS)


def test_several_versions_of_a_package_are_asked_about_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(
        audit,
        "_asked",
        lambda service, pins: asked.append([str(p.requirement) for p in pins]) or {},
    )
    audit._by_pip_audit("pypi", [*PINS, CANARY])
    assert asked == [["torch==2.14.1", "Jinja2==3.1.6"], ["jinja2==3.1.2"]]

"""Overrides as text, and as the hyperparameters of a job: what is written reads back as itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hydra.core.override_parser.types import Quote, QuotedString

from sagelight.config.grammar import hydra_text, parse_override, parse_single, quoted_text
from sagelight.config.hyperparameters import decode, encode, unwrapped
from sagelight.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (1e-05, "1e-05"),
        ("resnet18", "resnet18"),
        ("null", "'null'"),
        ("true", "'true'"),
        ("3", "'3'"),
        ("", "''"),
        ("a,b", "'a,b'"),
        ("runs/a=b", "'runs/a=b'"),
        ("\\", r"'\\'"),
        (["", "a", "x=y"], "['',a,'x=y']"),
        ({"a": ""}, "{a:''}"),
        ("it's", r"'it\'s'"),
        # JSON begins so, which version 2 of the SDK wraps values in.
        ('"quoted"', "'\"quoted\"'"),
        (QuotedString("a", Quote.double), "'a'"),
        ([1, "a b", None, [True]], "[1,a b,null,[true]]"),
        ({"a": {"b": 1.5}, "c": "x:y"}, "{a:{b:1.5},c:x:y}"),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_a_value_is_written_as_hydra_reads_it(value: Any, text: str) -> None:
    assert hydra_text(value) == text
    if not isinstance(value, QuotedString):
        again = parse_override(f"key={text}").value()
        assert (again, type(again)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "epochs: not understood. Type settings as key=value."),
        ("a=b'", "a=b': not understood. Quote values with special signs: \"key='a b'\"."),
        ("~a", "~a: settings cannot be removed, only set. Type a=VALUE."),
        ("a=1,2", "a=1,2: this is a list of values to try, and this command trains one. Type one value, or quote a text that holds a comma."),
    ],
)  # fmt: skip
def test_what_is_no_single_override_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_single(text)
    assert str(refusal.value) == message
    assert parse_single("a='1,2'").value() == "1,2"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("resnet18", "'resnet18'"),
        ("'a,b'", "'a,b'"),
        ("'3'", "'3'"),
        ("3", "3"),
        ("null", "null"),
        ("[a,b]", "[a,b]"),
        ("{a:1}", "{a:1}"),
    ],
)
def test_only_bare_words_of_a_list_get_quotes(text: str, quoted: str) -> None:
    assert quoted_text(text) == quoted


def test_shared_overrides_are_cut_into_numbered_parts_of_what_a_value_may_hold() -> None:
    overrides = [f"model.weights={'x' * 28_000}", "optimizer.lr=0.1", "name=é"]
    parts = encode(overrides)
    assert list(parts) == [f"sagelight_overrides_{number}" for number in range(12)]
    assert {len(part) for part in list(parts.values())[:-1]} == {2500}
    assert "".join(parts.values()) == json.dumps(overrides)
    # A service may give them back in any order, as the tenth before the second.
    assert decode(dict(sorted(parts.items()))) == overrides
    assert decode({name: json.dumps(part) for name, part in parts.items()}) == overrides
    assert encode([]) == {"sagelight_overrides_0": "[]"}


def test_what_is_tuned_comes_after_what_is_shared_by_its_name() -> None:
    values = {"b": "2", **encode(["z=0"]), "a": '"null"', "sagemaker_job_name": "x"}
    assert decode(values) == ["z=0", "a=null", "b=2"]
    assert decode({}) == []
    assert decode({"sagelight_overrides_0": '["a=1", 2]'}) == ["a=1", "2"]


@pytest.mark.parametrize("parts", [['["a=1"', ""], ["{}"], ["1"], ['"[]'], ["", ""]])
def test_parts_of_no_list_are_refused_by_their_names(parts: list[str]) -> None:
    values = {f"sagelight_overrides_{number}": part for number, part in enumerate(parts)}
    with pytest.raises(ConfigError) as refusal:
        decode(values)
    assert str(refusal.value) == (
        f"the hyperparameters {', '.join(values)} are not one JSON list. They are written by "
        "launch/sagemaker.py; start the job with it."
    )


@pytest.mark.parametrize(
    ("text", "inside"),
    [('"a"', "a"), ("a", "a"), ('"a', '"a'), ("5", "5"), ("'a'", "'a'"), ('""', ""), ("null", "null"), (' "a"', ' "a"')],
)  # fmt: skip
def test_a_text_is_taken_out_of_json_quotes(text: str, inside: str) -> None:
    assert unwrapped(text) == inside

"""Whom a server on loopback answers."""

from __future__ import annotations

import pytest

from sagelight.callers import is_loopback, is_stranger


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8080", ""),
        ("localhost:8080", ""),
        ("LocalHost.", ""),
        ("[::1]:8080", ""),
        ("192.168.1.7", ""),
        ("bucket.localhost:5000", ""),
        ("", ""),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:8080", "http://127.0.0.1:3000"),
        ("192.168.1.7:8080", "http://192.168.1.7:8080"),
        ("photos.example.com", "https://photos.example.com"),
        ("127.0.0.1:8080", "https://Photos.example.com:444"),
    ],
)
def test_programs_and_own_pages_are_answered(host: str, origin: str) -> None:
    assert not is_stranger(host, origin, ["photos.example.com"])


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", ""),
        ("evil.example:8080", "http://evil.example:8080"),
        ("127.0.0.1.evil.example", ""),
        ("localhost.evil.example", ""),
        ("127.0.0.1@evil.example", ""),
        ("evil.example:80:80", ""),
        ("0x7f000001", ""),
        ("127.1", ""),
        ("127.0.0.1:8080", "null"),
        ("127.0.0.1:8080", "https://evil.example"),
        ("127.0.0.1:8080", "http://203.0.113.5"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080.evil.example"),
        ("127.0.0.1:8080", "http://localhost@evil.example"),
        ("127.0.0.1:8080", "file://"),
    ],
)
def test_pages_of_others_are_not(host: str, origin: str) -> None:
    assert is_stranger(host, origin, ["photos.example.com"])


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("machine", False)],
)  # fmt: skip
def test_which_addresses_only_this_machine_reaches(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone

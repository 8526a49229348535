"""A plugin of pytest for mutants.py: of the tests that reach a mutant, the cheapest come first, for most mutants die of them."""

from __future__ import annotations

import pytest
from mutmut.state import state


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seconds = state().duration_by_test
    items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))

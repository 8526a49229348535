from __future__ import annotations

import pytest

from sagelight.tuning.stopping import falls_behind, without_improvement


@pytest.mark.parametrize(
    ("values", "others", "behind"),
    [
        ([], [[0.5]], False),
        ([0.4], [], False),
        # Running averages after two epochs: 0.5, 0.6, 0.7.
        ([0.9, 0.59], [[0.4, 0.6], [0.5, 0.7, 0.9], [0.6, 0.8]], True),
        ([0.1, 0.6], [[0.4, 0.6], [0.5, 0.7, 0.9], [0.6, 0.8]], False),
        # Who did not get as far does not count.
        ([0.1, 0.3], [[0.9], [0.2, 0.2]], False),
        ([0.1, 0.1], [[0.2], [0.2, 0.2]], True),
    ],
)
def test_a_trial_falls_behind_the_median_of_running_averages(
    values: list[float], others: list[list[float]], behind: bool
) -> None:
    assert falls_behind(values, others) is behind


@pytest.mark.parametrize(
    ("scores", "passed"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.4, 0.504], 2),
        ([0.5, 0.4, 0.51], 0),
        ([-1.0, -0.995, -0.98], 0),
        ([-1.0, -0.995], 1),
    ],
)
def test_an_improvement_is_one_per_cent(scores: list[float], passed: int) -> None:
    assert without_improvement(scores) == passed

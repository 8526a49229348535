"""Which trials have a mark of their own on the page: all, or of thousands the best and some of the others."""

from __future__ import annotations

from collections.abc import Sequence

from sagelight.reporting.study_objective import Objective, best_of, scored
from sagelight.tuning.trials import Trial

# A mark stands in every chart and in the table: ten thousand would be 16 MB of page.
MOST_DRAWN = 1000


def drawn(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """Up to 1,000 of the trials, in their order: of more, the better half are the best, the others evenly spread."""
    if len(trials) <= MOST_DRAWN:
        return list(trials)
    ranked = sorted(scored(trials), key=lambda entry: -objective.goodness(entry[1]))
    chosen = {id(trial) for trial, _ in ranked[: MOST_DRAWN // 2]} | {
        id(best_of(trials, objective))
    }
    others = [trial for trial in trials if id(trial) not in chosen]
    stride = -(-len(others) // (MOST_DRAWN - len(chosen)))
    chosen |= {id(trial) for trial in others[::stride]}
    return [trial for trial in trials if id(trial) in chosen]


def drawn_note(shown: Sequence[Trial], trials: Sequence[Trial]) -> tuple[str, ...]:
    """A sentence about the trials that have no mark; none where all have one."""
    if len(shown) == len(trials):
        return ()
    return (
        f"Drawn and listed are {len(shown):,} of {len(trials):,} trials: the best {MOST_DRAWN // 2}, and some of the "
        "others, evenly spread. All are in trials.csv.",
    )

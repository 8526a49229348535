"""Which test photos the model got wrong, with their pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sagelight.data.shards.archives import Shards
from sagelight.reporting.confusion import Pair, confused_pairs
from sagelight.reporting.pictures import Picture, thumbnail
from sagelight.reporting.run import Photo, Run

# 8 x 4 + 24 pictures of about 5 KB keep the page near 400 KB.
MOST_PAIRS = 8
PICTURES_A_PAIR = 4
MOST_WORST = 24


@dataclass(frozen=True)
class Exhibit:
    photo: Photo
    picture: Picture


@dataclass(frozen=True)
class PairExhibit:
    pair: Pair
    exhibits: list[Exhibit]


def wrong_photos(run: Run) -> list[Photo]:
    """The misclassified test photos, the surest mistake first."""
    wrong = [photo for photo in run.photos or [] if photo.predicted != photo.label]
    return sorted(wrong, key=lambda photo: (-photo.confidence, photo.file))


def worst_mistakes(run: Run, data_root: Path | Shards | None) -> list[Exhibit]:
    """The surest mistakes, at most 24."""
    return _exhibits(wrong_photos(run)[:MOST_WORST], data_root)


def pair_exhibits(run: Run, data_root: Path | Shards | None) -> list[PairExhibit]:
    """The most confused pairs, at most 8, each with at most 4 of its photos."""
    if run.test is None:
        return []
    wrong = wrong_photos(run)
    shown = []
    for pair in confused_pairs(run.test, MOST_PAIRS):
        names = (pair.label, pair.predicted)
        photos = [photo for photo in wrong if (photo.label, photo.predicted) == names]
        shown.append(PairExhibit(pair, _exhibits(photos[:PICTURES_A_PAIR], data_root)))
    return shown


def _exhibits(photos: list[Photo], data_root: Path | Shards | None) -> list[Exhibit]:
    return [Exhibit(photo, thumbnail(data_root, photo.file)) for photo in photos]

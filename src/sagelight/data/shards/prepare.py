"""The verb `prepare`: a folder of photos into shards, on a disk or in a bucket."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sagelight.config.setting import group, setting
from sagelight.data.check import enforce, inspect_data
from sagelight.data.index import ImageIndex
from sagelight.data.prepare import open_index, without
from sagelight.data.settings import DataSettings
from sagelight.data.shards.index import Cut, Prepared, index_bytes
from sagelight.data.shards.place import place_of
from sagelight.data.shards.plan import plan_digest, plan_shards
from sagelight.data.shards.write import sharded, write_shards
from sagelight.errors import ConfigError

MEGABYTE = 1_000_000


@dataclass
class PrepareSettings:
    data: DataSettings = group(DataSettings)
    output: str | None = setting(None, "Folder of the shards, or s3://BUCKET/PREFIX.")
    shard_mb: int = setting(
        150,
        "Megabytes of a shard; S3 and mounted buckets are fast at files of 100 and more.",
        least=1,
    )
    resize: int | None = setting(
        None,
        "Short side in pixels that larger photos are scaled to, as JPEG of quality 95; null keeps every byte. "
        "data.resize_size is what evaluation sees, 1.5 times that leaves room to crop.",
        least=8,
    )
    check: str = setting(
        "strict",
        "What photos unfit to train on do: strict refuses, warn tells and leaves out what cannot be read.",
        choices=("strict", "warn", "off"),
    )


def run_prepare(settings: PrepareSettings) -> None:
    """Write the photos of `data.root`, checked and split, into shards; repeated, it goes on where it stopped.

    Raises:
        ConfigError: no data.root or no output.
        DataError: photos unfit to train on, an output that holds something else, or too little room.
        CloudError: the bucket refuses.
    """
    if settings.output is None:
        raise ConfigError(
            "output is not set: where to? Type output=DIR or output=s3://BUCKET/PREFIX."
        )
    index = _checked(settings)
    planned = plan_shards(index, settings.shard_mb * MEGABYTE, settings.resize)
    plan = plan_digest(index, planned, settings.resize)
    place = place_of(settings.output, plan)
    if place.has_all(planned):
        print(f"{settings.output} holds these photos already; nothing was written")
        return
    with place.opened_for(planned) as folder:
        written = write_shards(index, planned, settings.resize, folder, place.keep, place.is_kept)
        shards = sharded(index, planned, written, settings.output)
        place.finish(index_bytes(_prepared(settings, replace(index, shards=shards), plan)))
    total = sum(done.shard.size for done in written)
    print(
        f"{index.size():,} photos in {len(written)} shards, {total / 1e6:,.1f} MB: {settings.output}\n"
        f"Train on them: python launch/local.py data=shards data.root={settings.output}"
    )


def _checked(settings: PrepareSettings) -> ImageIndex:
    index = open_index(settings.data)
    if settings.check == "off":
        return index
    report = inspect_data(index, full=False)
    enforce(report, settings.check)
    return without(index, set(report.unreadable))


def _prepared(settings: PrepareSettings, index: ImageIndex, plan: str) -> Prepared:
    data = settings.data
    cut = Cut(data.validation_fraction, data.test_fraction, data.split_seed)
    return Prepared(index, cut, settings.resize, plan)

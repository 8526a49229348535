from __future__ import annotations

import pytest

from sagelight.config.compose import compose
from sagelight.config.resolve import Machine, resolve
from sagelight.errors import ConfigError
from sagelight.features.settings import is_fixed, reason_against, uses_cache, views_of

HEAD = ["finetune=head", "augment=none"]
MIXED = ["augment=none", "augment.mixup_alpha=0.2"]
REFUSED = [
    (["finetune=full", "augment=none"], "finetune=full changes the backbone", "Type finetune=head"),
    (["finetune=gradual", "augment=none"], "finetune=gradual changes", "Type finetune=head"),
    (["finetune=layer_decay", "augment=none"], "finetune=layer_decay changes", "Type finetune=head"),
    (["finetune=head", "augment=mixup_cutmix"], "augment=mixup_cutmix blends photos", "Type augment=none"),
    (["finetune=head", *MIXED], "blends photos", "features.views=4"),
    (["finetune=head", *MIXED, "features.views=3"], "blends photos", "Type augment=none"),
    (["finetune=head", "augment=none", "augment.cutmix_alpha=1"], "blends photos", "Type augment=none"),
    (["finetune=head", "augment=light"], "augment=light varies each photo", "features.views=4"),
    (["finetune=head", "augment=strong"], "augment=strong varies each photo", "Type augment=none"),
    (["finetune=head", "augment=none", "augment.horizontal_flip=0.1"], "varies each photo", "features.views=4"),
    (["finetune=head", "augment=none", "augment.crop_ratio=1.1"], "varies each photo", "features.views=4"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "reason", "advice"), REFUSED)
def test_what_would_make_the_cache_wrong_is_refused_with_what_to_type(
    words: list[str], reason: str, advice: str
) -> None:
    found = reason_against(compose(words))
    assert found is not None
    assert reason in found
    assert advice in found

    with pytest.raises(ConfigError) as refusal:
        uses_cache(compose([*words, "features.cache=on"]))
    message = str(refusal.value)
    assert message.startswith("features.cache=on: ")
    assert reason in message
    assert message.endswith(", or features.cache=off.")


@pytest.mark.parametrize("cache", ["auto", "off"])
@pytest.mark.parametrize("words", [words for words, _, _ in REFUSED])
def test_what_cannot_be_cached_trains_without(words: list[str], cache: str) -> None:
    assert not uses_cache(compose([*words, f"features.cache={cache}"]))


@pytest.mark.parametrize("cache", ["auto", "on"])
@pytest.mark.parametrize(
    ("more", "views"),
    [
        ([], 1),
        (["features.views=4"], 1),
        (["model.dropout=0.5", "callbacks=ema", "data.sampler=balanced"], 1),
        (["augment=light", "features.views=4"], 4),
        (["augment=strong", "features.views=1"], 1),
    ],
)
def test_a_frozen_backbone_is_run_once(more: list[str], views: int, cache: str) -> None:
    config = compose([*HEAD, *more, f"features.cache={cache}"])
    assert reason_against(config) is None
    assert uses_cache(config)
    assert views_of(config) == views


@pytest.mark.parametrize(
    "change",
    [
        "crop_scale=0.9", "crop_ratio=1.2", "horizontal_flip=0.5", "rotation=5", "rand_augment=1", "color_jitter=0.1",
        "random_erasing=0.1",
    ],
)  # fmt: skip
def test_every_variation_counts_as_one(change: str) -> None:
    assert is_fixed(compose(["augment=none"]).augment)
    assert not is_fixed(compose(["augment=none", f"augment.{change}"]).augment)


def test_auto_is_decided_and_told_once() -> None:
    machine = Machine(2, "cpu", False, "")
    config = compose(HEAD)
    told = {choice.name: choice for choice in resolve(config, machine, 100)}
    assert told["features.cache"].value == config.features.cache == "on"

    varied = compose(["finetune=head", "augment=light"])
    told = {choice.name: choice for choice in resolve(varied, machine, 100)}
    assert told["features.cache"].value == varied.features.cache == "off"
    assert "features.views=4" in told["features.cache"].reason

    thawed = compose(["finetune=full", "augment=none"])
    assert "features.cache" not in {choice.name for choice in resolve(thawed, machine, 100)}
    assert thawed.features.cache == "off"

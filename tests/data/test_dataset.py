from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torchvision.transforms import v2

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.data.augment import batch_transform, class_weights, training_transform
from sagelight.data.dataset import (
    Draw,
    EpochSampler,
    PhotoDataset,
    Unreadable,
    collate,
    derived_seed,
)
from sagelight.data.decoding import decode_view
from sagelight.data.index import index_images
from sagelight.data.module import PhotoDataModule
from sagelight.data.settings import AugmentSettings, DataSettings
from sagelight.data.sources import PhotoFiles
from sagelight.errors import ConfigError

SPEC = Preprocessing(24, 20, (0.5,) * 3, (0.25,) * 3)
STRONG = AugmentSettings(
    "all", 0.2, 1.5, 0.5, 10.0, rand_augment=2, color_jitter=0.3, random_erasing=0.5
)


def module(photos: Path, augment: AugmentSettings = STRONG, **settings: object) -> PhotoDataModule:
    values = {
        "image_size": 20,
        "batch_size": 6,
        "eval_batch_size": 5,
        "num_workers": 0,
        "prefetch": 2,
    }
    values |= settings
    data = DataSettings(root=str(photos), **values)  # type: ignore[arg-type]
    return PhotoDataModule(index_images(photos), data, augment, SPEC, seed=3)


def test_training_batches_depend_on_seed_and_epoch_not_on_workers(photos: Path) -> None:
    def epoch(number: int, workers: int) -> torch.Tensor:
        loader = module(photos, num_workers=workers).train_dataloader()
        loader.batch_sampler.sampler.set_epoch(number)  # type: ignore[union-attr]
        return torch.cat([batch.images for batch in loader])

    assert torch.equal(epoch(0, 0), epoch(0, 2))
    assert not torch.equal(epoch(0, 0), epoch(1, 0))


def test_loading_does_not_disturb_the_generator(photos: Path) -> None:
    loader = module(photos).train_dataloader()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    next(iter(loader.dataset))  # type: ignore[call-overload]
    loader.dataset[Draw(0, 1)]
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_batches_are_every_photo_once_in_order(photos: Path) -> None:
    data = module(photos)
    batches = list(data.eval_loader("validation"))
    positions = torch.cat([batch.positions for batch in batches])
    assert positions.tolist() == list(range(len(data.index.splits["validation"])))
    sample = data.index.splits["validation"][0]
    assert torch.equal(batches[0].images[0], torch.from_numpy(SPEC(photos / sample.path)))
    assert batches[0].images.dtype == torch.uint8


def test_validation_while_training_is_the_same_within_a_level(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glanced = 0

    def counting(source: bytes | Path, preprocessing: Preprocessing) -> torch.Tensor:
        nonlocal glanced
        glanced += 1
        return decode_view(source, preprocessing)

    monkeypatch.setattr("sagelight.data.sources.decode_view", counting)
    data = module(photos)
    exact = torch.cat([batch.images for batch in data.eval_loader("validation")]).float()
    quick = torch.cat([batch.images for batch in data.val_dataloader()]).float()
    assert (exact - quick).abs().max() <= 1
    assert (exact - quick).abs().mean() <= 0.01
    assert glanced == len(exact)
    with_pillow = module(photos, decoder="pillow").val_dataloader()
    assert torch.equal(torch.cat([batch.images for batch in with_pillow]).float(), exact)
    assert glanced == len(exact)


def test_batches_lie_in_memory_as_convolutions_read_them(photos: Path) -> None:
    batch = next(iter(module(photos, augment=AugmentSettings()).train_dataloader()))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_sampler_covers_every_photo_each_epoch() -> None:
    sampler = EpochSampler(50, seed=0)
    first = [draw.position for draw in sampler]
    sampler.set_epoch(1)
    second = [draw.position for draw in sampler]
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_balanced_sampler_draws_rare_classes_as_often(tmp_path: Path) -> None:
    targets = torch.tensor([0] * 90 + [1] * 10)
    weights = class_weights([90, 10])[targets].double()
    drawn = torch.tensor([draw.position for draw in EpochSampler(1000, 0, weights)])
    assert 0.4 < targets[drawn % 100].float().mean() < 0.6


def test_class_weights_have_mean_one_over_photos_and_skip_empty_classes() -> None:
    weights = class_weights([30, 10, 0])
    assert weights.tolist() == pytest.approx([40 / 60, 2.0, 0.0])
    assert (weights * torch.tensor([30.0, 10, 0])).sum() / 40 == pytest.approx(1)


def test_unreadable_photos_are_named_and_left_out(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    index = index_images(photos)
    from sagelight.data.index import Sample

    dataset = PhotoDataset(PhotoFiles(tmp_path, [Sample("bad.jpg", 0)], SPEC))
    assert isinstance(dataset[0], Unreadable)
    good = PhotoDataset(PhotoFiles(photos, index.splits["train"], SPEC))[0]
    batch = collate([dataset[0], good])
    assert (len(batch), batch.unreadable[0].path) == (1, "bad.jpg")
    assert len(collate([dataset[0]])) == 0


def test_batch_larger_than_the_data_is_refused(photos: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=re.escape(
            "data.batch_size=512 is larger than the 24 training photos. Type data.batch_size=6."
        ),
    ):
        module(photos, batch_size=512)


def test_a_last_batch_of_one_is_dropped(photos: Path) -> None:
    sizes = [len(batch) for batch in module(photos, batch_size=23).train_dataloader()]
    assert sizes == [23]


def test_every_augmentation_gives_the_asked_size() -> None:
    transform = training_transform(STRONG, 20)
    torch.manual_seed(0)
    for size in ((7, 300), (200, 40), (20, 20)):
        photo = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        out = transform(photo)
        assert (out.shape, out.dtype) == ((3, 20, 20), torch.uint8)


def test_crops_are_torchvisions_whatever_the_layout_of_memory() -> None:
    settings = AugmentSettings(horizontal_flip=0)
    reference = v2.RandomResizedCrop(20, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3))
    for seed, size in enumerate(((7, 300), (200, 40), (20, 20), (61, 83))):
        photo = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        inner = photo.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        for layout in (photo, inner):
            torch.manual_seed(seed)
            expected = reference(layout)
            torch.manual_seed(seed)
            assert torch.equal(training_transform(settings, 20)(layout), expected)


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mixing_shares_targets(alphas: tuple[float, float]) -> None:
    mix = batch_transform(AugmentSettings(mixup_alpha=alphas[0], cutmix_alpha=alphas[1]), 3)
    assert mix is not None
    images, targets = mix(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 3, 8, 8)
    assert targets.sum(1).tolist() == pytest.approx([1.0] * 4)
    assert batch_transform(AugmentSettings(), 3) is None


def test_derived_seeds_differ_and_repeat() -> None:
    assert derived_seed(1, 2) == derived_seed(1, 2) < 2**63
    assert len({derived_seed(0, n) for n in range(1000)}) == 1000

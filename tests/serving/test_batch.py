"""The predict verb: one row a photo, in order, whatever else lies in the folder."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bundles import LABELS, make_bundle, make_photos, photo
from sagelight.errors import BundleError, DataError, SagelightError
from sagelight.serving import stream as stream_module
from sagelight.serving.batch import PredictSettings, run_predict
from sagelight.serving.predictor import Predictor
from sagelight.serving.stream import Pixels, answers, image_files


def predict(bundle: Path, source: Path, output: Path | None = None, **entries: int) -> None:
    text = None if output is None else str(output)
    run_predict(PredictSettings(bundle=str(bundle), input=str(source), output=text, **entries))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", each=5)


def spoil(photos: Path, count: int = 1) -> list[str]:
    names = [f"red/bad{number:02d}.jpg" for number in range(count)]
    for name in names:
        (photos / name).write_text("no photo")
    return names


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_photo_has_a_row_in_the_order_of_names(
    bundle: Path, photos: Path, tmp_path: Path, batch_size: int
) -> None:
    output = tmp_path / "out" / "labels.csv"
    (photos / "notes.txt").write_text("not asked for")
    (photos / ".hidden.png").write_text("nor this")
    (photos / ".cache").mkdir()
    photo("red").save(photos / ".cache" / "red.png")
    predict(bundle, photos, output, batch_size=batch_size)
    rows = read_csv(output)
    files = [row["file"] for row in rows]
    assert files == sorted(f"{label}/{number:02d}.png" for label in LABELS for number in range(5))
    assert [row["label"] for row in rows] == [file.split("/")[0] for file in files]
    assert [path.name for path in output.parent.iterdir()] == ["labels.csv"]


def test_columns_are_the_best_labels(bundle: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "labels.csv"
    predict(bundle, photos, output, top_k=2)
    rows = read_csv(output)
    assert list(rows[0]) == ["file", "label", "confidence", "label_2", "confidence_2"]
    expected = Predictor.load(bundle).predict([photos / rows[0]["file"]])[0]
    assert rows[0]["label_2"] == expected.top[1][0]
    assert float(rows[0]["confidence"]) == pytest.approx(expected.confidence, abs=1e-6)
    predict(bundle, photos, output, top_k=9)
    assert list(read_csv(output)[0])[-1] == "confidence_3"


def test_json_lines_hold_the_same(bundle: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "red" / "00.png").rename(photos / "red" / 'ü "0",.png')
    for ending in ("csv", "jsonl"):
        predict(bundle, photos, tmp_path / f"labels.{ending}")
    lines = (tmp_path / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    objects = [json.loads(line) for line in lines]
    assert list(objects[0]) == ["file", "label", "confidence", "top"]
    assert objects[-1]["file"] == 'red/ü "0",.png'
    rows = read_csv(tmp_path / "labels.csv")
    for row, entry in zip(rows, objects, strict=True):
        assert (row["file"], row["label"]) == (entry["file"], entry["label"])
        assert float(row["confidence"]) == entry["confidence"] == entry["top"][0]["confidence"]
        assert row["label_3"] == entry["top"][2]["label"]


def test_one_file_to_standard_output(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no_ending"
    photo("blue").save(path, "PNG")
    predict(bundle, path)
    captured = capsys.readouterr()
    [row] = csv.DictReader(io.StringIO(captured.out))
    assert (row["file"], row["label"]) == ("no_ending", "blue")
    assert captured.err == ""


def test_unreadable_files_are_named_and_the_rest_goes_on(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, output = spoil(photos, 23), tmp_path / "labels.csv"
    predict(bundle, photos, output, batch_size=4)
    assert len(read_csv(output)) == 15
    assert [row["file"] for row in read_csv(tmp_path / "labels.errors.csv")] == bad
    error = capsys.readouterr().err
    assert error.startswith("23 unreadable files have no row:\n  red/bad00.jpg: not an image of a")
    assert "bad19" in error
    assert "bad20" not in error
    assert f"  and 3 more\nAll of them are in {tmp_path / 'labels.errors.csv'}\n" in error
    assert error.endswith(f"{output}: 15 photos\n")
    for name in bad:
        (photos / name).unlink()
    predict(bundle, photos, output)
    assert not (tmp_path / "labels.errors.csv").exists()


def test_no_readable_file_is_an_error_and_leaves_no_table(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "red").mkdir()
    spoil(tmp_path, 2)
    output = tmp_path / "labels.csv"
    with pytest.raises(DataError, match=r"^none of the 2 files .*: red/bad00.jpg: not an image"):
        predict(bundle, tmp_path, output)
    assert not output.exists()
    assert len(read_csv(tmp_path / "labels.errors.csv")) == 2
    assert "2 unreadable files" in capsys.readouterr().err


def test_an_interrupted_run_leaves_the_table_that_was_there(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "labels.csv"
    predict(bundle, photos, output)
    before = output.read_bytes()

    def interrupt(*_: object) -> Iterator[None]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("sagelight.serving.batch.progress", interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict(bundle, photos, output)
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "photos"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": "x"}, "predict needs bundle. Type predict bundle=DIR input=FILE_OR_DIR"),
        ({"bundle": "x"}, "predict needs input. Type predict bundle=DIR input=FILE_OR_DIR"),
        (
            {"bundle": "x", "input": "x", "output": "a/b.xlsx"},
            "output=a/b.xlsx: the ending says how to write it, and it must be .csv or .jsonl. "
            "Type output=a/b.csv",
        ),
        ({"bundle": "x", "input": "x", "output": "table"}, "output=table: .* output=table.csv"),
    ],
)
def test_settings_are_refused_before_anything_is_read(
    settings: dict[str, str], message: str
) -> None:
    with pytest.raises(SagelightError, match=message):
        run_predict(PredictSettings(**settings))


def test_input_without_photos_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone does not exist\. Name a photo, or a folder"):
        predict(bundle, tmp_path / "gone")
    with pytest.raises(DataError, match=r"has no images \(looked for \.jpg, "):
        predict(bundle, tmp_path)


def test_a_bundle_that_is_none_is_refused(photos: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        predict(photos, photos)


def test_names_that_are_not_utf8_are_written_readably(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photo("red").save(folder / "a.png")
    try:
        (folder / "a.png").rename(folder / os.fsdecode(b"\xe9.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for ending in ("csv", "jsonl"):
        predict(bundle, folder, tmp_path / f"labels.{ending}")
        assert "\ufffd.png" in (tmp_path / f"labels.{ending}").read_text(encoding="utf-8")


@pytest.mark.parametrize("runs", [1, 3])
def test_decoding_stays_a_few_batches_ahead(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    decoded, lock, pixels = [], threading.Lock(), stream_module._pixels

    def counted(predictor: Predictor, root: Path, file: str) -> object:
        with lock:
            decoded.append(file)
        return pixels(predictor, root, file)

    monkeypatch.setattr(stream_module, "_pixels", counted)
    files = image_files(photos) * 20
    running = answers(Predictor.load(bundle), photos, files, batch_size=4, workers=3, runs=runs)
    assert next(running).file == files[0]
    # The batch that is answered, those in the network's hands, and the next one.
    assert len(decoded) <= (runs + 2) * 4
    running.close()
    assert len(decoded) <= (runs + 2) * 4
    assert not threads_left()


def threads_left() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("decode", "predict"))]


def test_batches_are_computed_side_by_side_and_answered_in_order(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, files = Predictor.load(bundle), image_files(photos)
    expected = list(answers(predictor, photos, files, batch_size=4, workers=2))
    together, compute = threading.Barrier(2, timeout=20), predictor.probabilities

    def meeting(pixels: Pixels) -> np.ndarray:
        together.wait()
        return compute(pixels)

    monkeypatch.setattr(predictor, "probabilities", meeting)
    # 15 photos are four batches, of which two meet each time.
    found = list(answers(predictor, photos, files, batch_size=4, workers=2, runs=2))
    assert [answer.file for answer in found] == files
    for one, other in zip(expected, found, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_a_failing_network_ends_the_stream(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(bundle)

    def fail(pixels: Pixels) -> np.ndarray:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(predictor, "probabilities", fail)
    files = image_files(photos) * 20
    with pytest.raises(RuntimeError, match="out of memory"):
        next(answers(predictor, photos, files, batch_size=4, workers=2, runs=2))
    assert not threads_left()


def test_rows_do_not_depend_on_the_batch(tmp_path: Path, photos: Path) -> None:
    spoil(photos, 3)
    predictor = Predictor.load(make_bundle(tmp_path / "bundle", image_size=8, resize_size=12))
    files = image_files(photos)
    tables = [list(answers(predictor, photos, files, size, 2)) for size in (1, 7, 64)]
    for table in tables[1:]:
        for one, other in zip(tables[0], table, strict=True):
            assert (one.file, one.reason) == (other.file, other.reason)
            if one.probabilities is not None:
                assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_a_link_back_to_a_parent_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "photo.jpg").touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert image_files(tmp_path) == ["a/photo.jpg"]

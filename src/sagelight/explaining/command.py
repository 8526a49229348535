"""The `explain` verb: what the labels of photos rest on, as pictures, figures and a page."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagelight.bundle.preprocessing import UnreadableImageError
from sagelight.config.setting import setting
from sagelight.errors import DataError, SagelightError, suggestion
from sagelight.explaining.folder import INDEX, refuse_foreign, whole_folder
from sagelight.explaining.methods import CHOICES, Method, methods_of
from sagelight.explaining.occlusion import BATCH
from sagelight.explaining.photos import Explained, entry_of, explain_photo, write_pictures
from sagelight.files import write_json, write_text
from sagelight.progress import progress
from sagelight.reporting.gallery import Gallery, Panel, panel, render_gallery
from sagelight.serving.predictor import Predictor
from sagelight.serving.stream import image_files

if TYPE_CHECKING:
    from sagelight.explaining.sanity import Sanity
    from sagelight.models.network import Network

USAGE = "Type explain bundle=DIR input=FILE_OR_DIR output=DIR"
PAGE = "index.html"
ASKED_FOR_SANITY = 4


@dataclass
class ExplainSettings:
    bundle: str | None = setting(None, "Folder of the bundle: a run leaves RUN_DIR/bundle.")
    input: str | None = setting(None, "A photo, or a folder of photos at any depth.")
    output: str | None = setting(None, "Folder for the overlays, explain.json and index.html.")
    method: str = setting(
        "auto",
        "gradcam: one look at the gradients; occlusion: 50 answers a photo, of any bundle; both; auto: both where "
        "captum is installed, else occlusion.",
        choices=CHOICES,
    )
    top_k: int = setting(2, "How many of the best labels are explained for each photo.", least=1)
    target: str | None = setting(None, "Explain this label of every photo instead of the best.")
    limit: int = setting(48, "Photos explained at most, taken evenly from all.", least=1)
    batch_size: int = setting(BATCH, "occlusion: pictures to one run of the network.", least=1)
    sanity: bool = setting(
        False,
        "Also check that the maps depend on the weights and on the class, with the weights of copies made random.",
    )


@dataclass
class _Results:
    """What has been found so far; of pictures only what the page shows is kept."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    asked: list[Explained] = field(default_factory=list)


def run_explain(settings: ExplainSettings) -> None:
    """Explain photos; the folder appears only when it is complete.

    A photo that cannot be read is listed in explain.json, on the page and on standard error.

    Raises:
        SagelightError: a setting is missing or wrong, the bundle is unusable, a method cannot be had, or
            (DataError) no photo could be read.
    """
    given, output = _checked(settings)
    bundle = Path(str(settings.bundle))
    predictor = Predictor.load(bundle)
    wanted = _wanted(settings, predictor.labels)
    root, found = (given.parent, [given.name]) if given.is_file() else (given, image_files(given))
    chosen = evenly(found, settings.limit)
    methods = methods_of(settings.method, bundle, predictor, settings.batch_size)
    network = _comparable(bundle, predictor) if settings.sanity else None
    with whole_folder(output) as scratch:
        results = _explain(predictor, methods, root, chosen, wanted, scratch)
        if not results.entries:
            raise DataError(
                f"none of the {len(chosen)} files of input={given} is a readable image: "
                f"{results.unreadable[0]['file']}: {results.unreadable[0]['reason']}."
            )
        checks = (
            _sanity(network, settings, predictor, methods, results) if network is not None else []
        )
        _write(scratch, settings, predictor, methods, results, checks, len(found))
    _report(output, results, len(found), methods)


def evenly(files: list[str], most: int) -> list[str]:
    """At most `most` of the files, in their order, from all over the list."""
    if len(files) <= most:
        return files
    return [files[place * len(files) // most] for place in range(most)]


def _checked(settings: ExplainSettings) -> tuple[Path, Path]:
    for name in ("bundle", "input", "output"):
        if getattr(settings, name) is None:
            raise SagelightError(f"explain needs {name}. {USAGE}")
    output = Path(str(settings.output))
    refuse_foreign(output)
    return Path(str(settings.input)), output


def _wanted(settings: ExplainSettings, labels: list[str]) -> int | str:
    if settings.target is None:
        return min(settings.top_k, len(labels))
    if settings.target not in labels:
        raise SagelightError(
            f"target={settings.target}: the bundle has no such label.{suggestion(settings.target, labels)} "
            f"It knows {', '.join(labels)}."
        )
    return settings.target


def _explain(
    predictor: Predictor,
    methods: list[Method],
    root: Path,
    files: list[str],
    wanted: int | str,
    scratch: Path,
) -> _Results:
    results = _Results()
    asked = evenly(files, ASKED_FOR_SANITY)
    for file in progress(files, len(files), "explain"):
        # A name that is not UTF-8 could not be written.
        shown = os.fsencode(file).decode("utf-8", "replace")
        try:
            pixels = predictor.pixels(root / file)
        except UnreadableImageError as error:
            results.unreadable.append({"file": shown, "reason": str(error)})
            continue
        explained = explain_photo(predictor, methods, shown, pixels, wanted)
        names = write_pictures(scratch, len(results.entries) + 1, explained)
        results.files += names
        results.entries.append(entry_of(explained, names))
        results.panels.append(panel(explained))
        if file in asked or not results.asked:
            results.asked.append(explained)
    return results


def _comparable(bundle: Path, predictor: Predictor) -> Network:
    # Torch loads for seconds, and occlusion does without.
    from sagelight.explaining.sanity import comparable_network

    return comparable_network(bundle, predictor)


def _sanity(
    network: Network,
    settings: ExplainSettings,
    predictor: Predictor,
    methods: list[Method],
    results: _Results,
) -> list[Sanity]:
    from sagelight.explaining.sanity import check_bundle, described

    found = check_bundle(network, predictor.spec, methods, results.asked, settings.batch_size)
    for line in described(found):
        print(line)
    return found


def _write(
    folder: Path,
    settings: ExplainSettings,
    predictor: Predictor,
    methods: list[Method],
    results: _Results,
    checks: list[Sanity],
    found: int,
) -> None:
    gallery = Gallery(
        bundle=str(settings.bundle),
        source=str(settings.input),
        spec=predictor.spec,
        methods=[method.name for method in methods],
        panels=results.panels,
        unreadable=results.unreadable,
        left_out=found - len(results.panels) - len(results.unreadable),
        checks=checks,
    )
    write_text(folder / PAGE, render_gallery(gallery))
    content = {
        "bundle": settings.bundle,
        "backbone": predictor.spec.backbone,
        "input": settings.input,
        "methods": {method.name: method.facts() for method in methods},
        "photos": results.entries,
        "unreadable": results.unreadable,
        "left_out": gallery.left_out,
        "sanity": [each.to_dict() for each in checks],
        "files": [*results.files, PAGE, INDEX],
    }
    write_json(folder / INDEX, content)


def _report(output: Path, results: _Results, found: int, methods: list[Method]) -> None:
    for each in results.unreadable:
        print(f"left out: {each['file']}: {each['reason']}", file=sys.stderr)
    done = len(results.entries)
    rest = found - done - len(results.unreadable)
    more = f", {rest} more not looked at (limit)" if rest else ""
    by = " and ".join(method.title for method in methods)
    print(f"{output / PAGE}: {done} photos by {by}{more}", file=sys.stderr)

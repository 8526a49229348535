"""What is left of a transform job where a person wants it: the table, the errors, and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sagelight.bundle.spec import BundleSpec
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.transform_manifest import S3
from sagelight.cloud.transform_plan import TransformPlan, table_name
from sagelight.cloud.transform_results import labels_in
from sagelight.files import write_json
from sagelight.serving.evaluate_report import text_report
from sagelight.serving.folders import TEST, figures_content, known_targets, scored
from sagelight.serving.predictor import ranked
from sagelight.serving.stream import Answer
from sagelight.serving.table import report_unreadable, table_writer


def write_results(
    plan: TransformPlan, answers: Sequence[Answer], labels: Sequence[str], folder: Path
) -> None:
    """Write the table, the photos that have no row, and the figures where classes are known, into a folder here."""
    table, top_k = folder / table_name(plan.settings.output), plan.settings.top_k
    with table_writer(table, min(top_k, len(labels))) as write:
        for answer in answers:
            if answer.probabilities is not None:
                write(answer.file, ranked(labels, answer.probabilities, top_k))
    bad = [answer for answer in answers if answer.probabilities is None]
    report_unreadable(table, bad, plan.folder)
    _score(plan, answers, list(labels), table.with_suffix(".json"))


def _score(
    plan: TransformPlan, answers: Sequence[Answer], labels: list[str], figures: Path
) -> None:
    """The figures of what lies in folders of known classes."""
    targets = known_targets((answer.file for answer in answers), labels)
    found = scored(answers, targets)
    figures.unlink(missing_ok=True)
    if not found.rows:
        return
    evaluation = found.evaluation(labels)
    given = str(plan.settings.input)
    print(text_report(evaluation, plan.model.uri, given, TEST, found.unreadable))
    if len(targets) < len(answers):
        print(
            f"{len(answers) - len(targets)} other photos lie in no folder of a class, or are not for testing"
        )
    write_json(
        figures,
        {
            "bundle": plan.model.uri,
            "data_root": given,
            "job": plan.name,
            **figures_content(found, evaluation, TEST),
        },
    )


def labels_of(aws: Aws, plan: TransformPlan) -> list[str]:
    """The labels of the plan's bundle, from here or from S3."""
    packed = plan.model.packed
    if packed is not None:
        return BundleSpec.read(packed.folder).labels
    return labels_in(aws, plan.model.uri)


def bring_up(aws: Aws, folder: Path, target: str) -> None:
    """Upload the files of a folder to an S3 prefix."""
    bucket, _, prefix = target.removeprefix(S3).partition("/")
    with explained(f"writing to {target}"):
        for path in sorted(folder.iterdir()):
            key = f"{prefix}/{path.name}" if prefix else path.name
            aws.s3.upload_file(str(path), bucket, key)

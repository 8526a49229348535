"""SageMaker's own Debugger in a request: there when asked for, loudly not there where the API has no place for it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from cloud.studies import PAYLOAD, PLACE, RULES_IMAGE, study
from images import make_folder
from sagelight.cloud.contract import violations
from sagelight.cloud.debugger import (
    AWS_RULES,
    DEFAULT_RULES,
    debugger_notices,
    debugger_problems,
)
from sagelight.cloud.door import main
from sagelight.cloud.place import rules_image_uri
from sagelight.cloud.request import TUNING_JOB, build_request
from sagelight.debugging.rules.catalogue import RULES
from sagelight.errors import CloudError
from stories.commands import refused_by

ASKED = "debugger.cloud=true"
NO_CHOICE = "debugger.rules=[]"
MEMBERS = {
    "DebugHookConfig",
    "DebugRuleConfigurations",
    "ProfilerConfig",
    "ProfilerRuleConfigurations",
}


def body(*words: str, one_job: bool = False) -> dict[str, Any]:
    place = replace(PLACE, rules_image=RULES_IMAGE)
    request = build_request(study(*words), place, PAYLOAD, one_job)
    assert violations(request.operation, request.body) == []
    return request.body


def collections(*words: str) -> dict[str, dict[str, str]]:
    found = body(ASKED, *words)["DebugHookConfig"]["CollectionConfigurations"]
    return {each["CollectionName"]: each["CollectionParameters"] for each in found}


def problems(*words: str) -> list[str]:
    return list(debugger_problems(study(*words)))


def test_without_the_setting_nothing_is_asked_for() -> None:
    found = body()
    assert not MEMBERS & found.keys()
    assert "USE_SMDEBUG" not in found["Environment"]


def test_rules_are_aws_built_in_ones_with_parameters_as_text() -> None:
    words = [
        "debugger.rules=[Overfit,VanishingGradient,Overfit]",
        "debugger.parameters={Overfit: {patience: 3, ratio_threshold: 0.2}, VanishingGradient: {threshold: null}}",
    ]
    assert body(ASKED, *words)["DebugRuleConfigurations"] == [
        {
            "RuleConfigurationName": "Overfit",
            "RuleEvaluatorImage": RULES_IMAGE,
            "RuleParameters": {
                "rule_to_invoke": "Overfit",
                "patience": "3",
                "ratio_threshold": "0.2",
            },
        },
        {
            "RuleConfigurationName": "VanishingGradient",
            "RuleEvaluatorImage": RULES_IMAGE,
            "RuleParameters": {"rule_to_invoke": "VanishingGradient"},
        },
    ]
    default = body(ASKED, NO_CHOICE)["DebugRuleConfigurations"]
    assert tuple(rule["RuleConfigurationName"] for rule in default) == DEFAULT_RULES


def test_tensors_go_below_the_jobs_output_and_only_one_hook_writes_them() -> None:
    found = body(ASKED)
    hook = found["DebugHookConfig"]
    assert hook["S3OutputPath"] == found["OutputDataConfig"]["S3OutputPath"]
    assert hook["LocalPath"] == "/opt/ml/output/tensors"
    assert found["Environment"]["USE_SMDEBUG"] == "false"
    wanted = body(ASKED, "cloud.environment=['USE_SMDEBUG=true']")["Environment"]
    assert wanted["USE_SMDEBUG"] == "true"


def test_collections_follow_the_settings() -> None:
    found = collections("debugger.save_interval=40")
    assert list(found)[:4] == ["losses", "weights", "gradients", "biases"]
    assert found["weights"]["save_interval"] == "40"
    assert "abs_mean" in found["weights"]["reductions"].split(",")
    assert "reductions" not in found["losses"]
    assert (found["losses"]["save_interval"], found["losses"]["eval.save_interval"]) == ("10", "1")
    whole = collections("debugger.raw=true", "debugger.rules=[PoorWeightInitialization]")
    assert list(whole)[4:] == ["relu_input"]
    assert whole["relu_input"]["include_regex"] == ".*relu_input"
    assert not any("reductions" in each for each in whole.values())
    hook = body(ASKED, "debugger.workers=all")["DebugHookConfig"]
    assert hook["HookParameters"]["include_workers"] == "all"


def test_the_profiler_is_asked_for_or_turned_off() -> None:
    found = body(
        ASKED, "profiler.interval_ms=1000", "profiler.parameters={CPUBottleneck: {threshold: 60}}"
    )
    assert found["ProfilerConfig"]["ProfilingIntervalInMilliseconds"] == 1000
    (report,) = found["ProfilerRuleConfigurations"]
    assert report["RuleParameters"] == {
        "rule_to_invoke": "ProfilerReport",
        "CPUBottleneck_threshold": "60",
    }
    off = body(ASKED, "profiler=off")
    assert off["ProfilerConfig"] == {"DisableProfiler": True}
    assert "ProfilerRuleConfigurations" not in off


@pytest.mark.parametrize("one_job", [False, True])
def test_a_study_never_asks_and_says_so(one_job: bool) -> None:
    words = ["hpo=true", "hpo.retrain=true", ASKED]
    found = body(*words, one_job=one_job)
    assert not MEMBERS & (found.keys() | found.get("TrainingJobDefinition", {}).keys())
    (notice,) = debugger_notices(study(*words), one_job)
    assert notice.startswith("debugger.cloud=true is NOT in this request: ")
    assert ("tuning jobs has no DebugHookConfig" in notice) is not one_job


def test_the_closing_is_told_and_so_is_what_rules_cannot_see() -> None:
    closed, blind = debugger_notices(study(ASKED, NO_CHOICE), one_job=False)
    assert "takes no new AWS customers since 2026-07-30" in closed
    assert blind.startswith("PoorWeightInitialization, AllZero: AWS's look at whole tensors")
    words = [ASKED, NO_CHOICE, "debugger.raw=true"]
    assert len(debugger_notices(study(*words), one_job=False)) == 1
    assert debugger_notices(study(), one_job=False) == []


def test_a_rule_that_only_we_have_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "OursAlone", RULES["Overfit"])
    words = [ASKED, "debugger.rules=[OursAlone,Overfit]"]
    (rule,) = body(*words)["DebugRuleConfigurations"]
    assert rule["RuleConfigurationName"] == "Overfit"
    assert problems(*words) == []
    assert "OursAlone: AWS has no such rule" in debugger_notices(study(*words), one_job=False)[-1]


def test_a_rule_that_aws_calls_otherwise_goes_by_its_name() -> None:
    words = [
        "debugger.rules=[StalledTraining]",
        "debugger.parameters={StalledTraining: {threshold: 60}}",
    ]
    (rule,) = body(ASKED, *words)["DebugRuleConfigurations"]
    assert rule["RuleParameters"] == {"rule_to_invoke": "StalledTrainingRule", "threshold": "60"}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([ASKED, "debugger.rules=[Overfits]"], "there is no rule Overfits. Did you mean Overfit"),
        ([ASKED, "debugger.parameters={Overfitt: {patience: 1}}"], "no rule Overfitt. Did you mean Overfit"),
        ([ASKED, "debugger.actions={Overfitt: stop}"], "no rule Overfitt. Did you mean Overfit"),
        ([ASKED, "debugger.parameters={Overfit: 3}"], "debugger.parameters: Overfit: 3 names no parameter."),
        ([ASKED, "debugger.parameters={Overfit: {patience: {a: 1}}}"], "AWS takes a number, a word or a list"),
        ([ASKED, "debugger=off"], "Type debugger=default or debugger.cloud=false"),
        ([ASKED, "profiler.interval_ms=300"], "Type profiler.interval_ms=200"),
        ([ASKED, "hpo=true", "debugger.rules=[OnlyAws]"], "there is no rule OnlyAws"),
        (["debugger.hook_config=own.json"], "debugger.hook_config=own.json is a file of this machine"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_what_to_type(
    words: list[str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AWS_RULES, "OnlyAws", ())
    (problem,) = problems(*words)
    assert part in problem
    body(*words)


@pytest.mark.parametrize(
    "words",
    [
        [ASKED],
        [ASKED, "debugger.rules=[SimilarAcrossRuns,Overfit]"],
        [ASKED, "profiler=off", "profiler.interval_ms=300"],
        ["debugger.rules=[Overfit]"],
        ["debugger.hook_config=/opt/ml/input/config/debughookconfig.json"],
    ],
)
def test_what_is_right_is_no_problem(words: list[str]) -> None:
    assert problems(*words) == []


def test_more_rules_than_the_api_takes_would_be_told() -> None:
    found = body(ASKED, "debugger.rules=[Overfit]")
    found["DebugRuleConfigurations"] *= 21
    assert violations("CreateTrainingJob", found) == [
        "DebugRuleConfigurations: 21 entries, and at most 20 are allowed"
    ]


def test_the_names_are_those_of_the_sdk() -> None:
    files = metadata.files("smdebug-rulesconfig") or []
    table = next(file for file in files if file.name == "ruleConfigs.json")
    known = json.loads(Path(str(table.locate())).read_text())
    about_others = {"TreeDepth", "FeatureImportanceOverweight", "CreateXgboostReport"}
    assert set(AWS_RULES) == set(known) - about_others - {"NLPSequenceRatio"}
    assert set(DEFAULT_RULES) <= set(AWS_RULES)


def test_the_image_is_that_of_the_region() -> None:
    assert rules_image_uri("eu-west-1") == RULES_IMAGE
    assert rules_image_uri("cn-north-1").endswith(
        ".dkr.ecr.cn-north-1.amazonaws.com.cn/sagemaker-debugger-rules:latest"
    )
    with pytest.raises(CloudError, match="AWS has no Debugger rules in eu-west-9"):
        rules_image_uri("eu-west-9")


def plan_words(tmp_path: Path, *words: str) -> list[str]:
    root = make_folder(tmp_path / "photos", {"": {"blue": 14, "red": 12}})
    return [
        "experiment=resnet18",
        f"data.root={root}",
        "data.batch_size=8",
        "model.weights=none",
        "cloud.region=eu-west-1",
        "cloud.role=arn:aws:iam::111122223333:role/train",
        "dry_run=true",
        *words,
    ]


def test_the_plan_tells_it_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(plan_words(tmp_path, ASKED)) == 0
    said = capsys.readouterr().out
    assert "  notice    Debugger takes no new AWS customers since 2026-07-30" in said
    assert f'"RuleEvaluatorImage": "{RULES_IMAGE}"' in said
    assert main(plan_words(tmp_path, ASKED, "hpo=true", "hpo.backend=tuner")) == 0
    said = capsys.readouterr().out
    assert said.startswith(TUNING_JOB)
    assert "  notice    debugger.cloud=true is NOT in this request" in said
    assert "DebugHookConfig" not in said[said.index("{") :]


def test_the_plan_refuses_unknown_rules_and_regions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["debugger.rules=[Overfits]", "cloud.region=il-central-1", "cloud.image=own"]
    message = refused_by(main, capsys, *plan_words(tmp_path, ASKED, *words))
    assert "debugger.rules: there is no rule Overfits. Did you mean Overfit" in message
    assert "debugger.cloud=true: AWS has no Debugger rules in il-central-1" in message

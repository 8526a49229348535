"""What SageMaker's own Debugger is asked for in a training request: tensors to keep, rules, measurements.

Pure, as the rest of the request is. Source: CreateTrainingJob, smdebug 1.0.34 (core/json_config) for the parameters of
collections, smdebug-rulesconfig 1.0.1 for the names of rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sagelight.config.schema import Config
from sagelight.container.paths import BASE, TENSORS
from sagelight.debugging.hook_config import EARLY
from sagelight.debugging.rules.catalogue import RULES
from sagelight.debugging.settings import DebuggerSettings
from sagelight.errors import suggestion
from sagelight.profiling.settings import ProfilerSettings
from sagelight.tuning.study import Study

CLOSED_SINCE = "2026-07-30"
# AWS's rules about networks and photos, and the collections that each needs besides the usual ones. Those about trees,
# texts and XGBoost are left out.
AWS_RULES: dict[str, tuple[str, ...]] = {
    "VanishingGradient": (),
    "ExplodingTensor": (),
    "PoorWeightInitialization": ("relu_input",),
    "SaturatedActivation": ("saturation",),
    "DeadRelu": ("relu_output",),
    "TensorVariance": (),
    "UnchangedTensor": (),
    "AllZero": (),
    "WeightUpdateRatio": ("updates",),
    "LossNotDecreasing": (),
    "Overfit": (),
    "Overtraining": (),
    "ClassImbalance": ("labels", "predictions"),
    "Confusion": ("labels", "predictions"),
    "CheckInputImages": ("inputs",),
    "SimilarAcrossRuns": (),
    "StalledTrainingRule": (),
}
DEFAULT_RULES = (
    "VanishingGradient",
    "ExplodingTensor",
    "PoorWeightInitialization",
    "AllZero",
    "LossNotDecreasing",
    "Overfit",
    "Overtraining",
)
# Rules of ours that AWS calls otherwise.
AWS_NAMES = {"StalledTraining": "StalledTrainingRule"}
PROFILER_REPORT = "ProfilerReport"
# The documentation names these; the service model allows any number.
INTERVALS_MS = (100, 200, 500, 1000, 5000, 60000)
# With these the containers that still have smdebug leave its hook alone: who writes the trial is debugger.sink.
NO_SECOND_HOOK = {"USE_SMDEBUG": "false"}

_USUAL = ("losses", "weights", "gradients", "biases")
_REDUCTIONS = "min,max,mean,std,variance,abs_mean"
_LOSSES_EVERY = 10
# Small, and of no use reduced.
_WHOLE = ("losses", "labels", "predictions")
# What our own writer keeps in these is a digest already.
_DIGESTS = ("relu_output", "saturation", "inputs")
# Which of smdebug's names belong to them; our writer knows its own.
_REGEXES = {
    "relu_input": ".*relu_input",
    "relu_output": ".*relu_output",
    "saturation": ".*(tanh|sigmoid)_input",
    "labels": ".*labels",
    "predictions": ".*predictions",
}
# AWS publishes no source; by their description these count or compare the single values of a tensor.
_NEED_WHOLE = (
    "PoorWeightInitialization",
    "SaturatedActivation",
    "DeadRelu",
    "UnchangedTensor",
    "AllZero",
    "WeightUpdateRatio",
)


def asks_debugger(study: Study) -> bool:
    """Whether the request asks for Debugger: of one training only, because a study's jobs have no place for it."""
    return study.config.debugger.cloud and not study.tunes


def debugger_members(config: Config, output: str, image: str) -> dict[str, Any]:
    """The members of CreateTrainingJob that ask for Debugger.

    Args:
        output: S3 prefix below which the service makes a folder for the job.
        image: URI of AWS's image that evaluates rules.
    """
    return {
        "DebugHookConfig": _hook(config.debugger, output),
        "DebugRuleConfigurations": [
            _rule(AWS_NAMES.get(name, name), image, _mapping(config.debugger.parameters.get(name)))
            for name in aws_rules(config.debugger)
        ],
        **_profiler(config.profiler, output, image),
    }


def aws_rules(debugger: DebuggerSettings) -> list[str]:
    """The rules that AWS is asked to evaluate, as typed; those that only we have are ours alone."""
    wanted = {AWS_NAMES.get(name, name): name for name in debugger.rules or DEFAULT_RULES}
    return [typed for name, typed in wanted.items() if name in AWS_RULES]


def debugger_problems(study: Study) -> Iterator[str]:
    """What is wrong with `debugger.cloud=true`, each with what to type."""
    debugger, profiler = study.config.debugger, study.config.profiler
    given = debugger.hook_config
    if given is not None and not given.startswith(BASE):
        yield (
            f"debugger.hook_config={given} is a file of this machine, which a job does not see. "
            "Type debugger.hook_config=null; with debugger.cloud=true SageMaker writes one for the job"
        )
    if not debugger.cloud:
        return
    # Of a study AWS evaluates nothing, so what it alone knows nobody would.
    known = {**RULES} if study.tunes else {**AWS_RULES, **RULES}
    for name in dict.fromkeys([*debugger.rules, *debugger.parameters, *debugger.actions]):
        if name not in known:
            yield (
                f"debugger.rules: there is no rule {name}.{suggestion(name, known)} "
                f"There are {', '.join(known)}"
            )
    for key in ("debugger", "profiler"):
        for name, typed in getattr(study.config, key).parameters.items():
            yield from _parameter_problems(f"{key}.parameters", name, typed)
    if debugger.sink == "off":
        yield (
            "debugger.cloud=true asks for rules about tensors that nobody keeps with debugger.sink=off. "
            "Type debugger=default or debugger.cloud=false"
        )
    if profiler.enabled and profiler.interval_ms not in INTERVALS_MS:
        nearest = min(INTERVALS_MS, key=lambda each: abs(each - profiler.interval_ms))
        yield (
            f"profiler.interval_ms={profiler.interval_ms}: SageMaker measures every "
            f"{', '.join(map(str, INTERVALS_MS))} ms. Type profiler.interval_ms={nearest}"
        )


def debugger_notices(study: Study, one_job: bool) -> list[str]:
    """What a person should know of `debugger.cloud=true` before the job starts."""
    config = study.config
    if not config.debugger.cloud:
        return []
    if study.tunes:
        return [_left_out(one_job, config.hpo.retrain)]
    found = [
        f"Debugger takes no new AWS customers since {CLOSED_SINCE}: an account that has not used it "
        "may be refused. Type debugger.cloud=false then; our own rules watch the training either way"
    ]
    rules = aws_rules(config.debugger)
    blind = [name for name in rules if name in _NEED_WHOLE]
    if blind and not config.debugger.raw:
        found.append(
            f"{', '.join(blind)}: AWS's look at whole tensors, and only reductions are kept. "
            "debugger.raw=true keeps them, at its price; our own rules need only the reductions"
        )
    ours = [name for name in config.debugger.rules if name in RULES and name not in rules]
    if ours:
        found.append(f"{', '.join(ours)}: AWS has no such rule; ours is evaluated in the job")
    if config.cloud.name == "rehearsal":
        found.append("the rehearsal keeps the tensors, but AWS's rule images run at AWS only")
    return found


def _left_out(one_job: bool, retrain: bool) -> str:
    why = (
        "a job keeps one training's tensors, and a study inside a job is many trainings"
        if one_job
        else "the API of tuning jobs has no DebugHookConfig, no rules and no ProfilerConfig"
    )
    after = (
        "; the retrained best one, a job of its own, is watched" if retrain and not one_job else ""
    )
    ours = "Nor do our own rules watch those" if one_job else "Our own rules watch each of its jobs"
    return f"debugger.cloud=true is NOT in this request: {why}{after}. {ours}"


def _hook(debugger: DebuggerSettings, output: str) -> dict[str, Any]:
    rules = debugger.rules or list(AWS_RULES)
    extra = dict.fromkeys(each for name in rules for each in AWS_RULES.get(name, ()))
    return {
        "S3OutputPath": output,
        "LocalPath": TENSORS,
        "HookParameters": {
            "save_interval": str(debugger.save_interval),
            "include_workers": debugger.workers,
        },
        "CollectionConfigurations": [
            {"CollectionName": name, "CollectionParameters": _collection(name, debugger)}
            for name in (*_USUAL, *extra)
        ],
    }


def _collection(name: str, debugger: DebuggerSettings) -> dict[str, str]:
    library = debugger.sink == "smdebug"
    found = {"save_interval": str(debugger.save_interval), "save_steps": ",".join(map(str, EARLY))}
    if name in _WHOLE:
        found["save_interval"] = str(min(debugger.save_interval, _LOSSES_EVERY))
        # A validation is short, and all of it is its loss.
        found["eval.save_interval"] = "1"
    elif not debugger.raw and (library or name not in _DIGESTS):
        found["reductions"] = _REDUCTIONS
    if name in _REGEXES and (library or debugger.raw):
        found["include_regex"] = _REGEXES[name]
    return found


def _rule(name: str, image: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A built-in rule, which names no instance type: it runs on what AWS keeps for them."""
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": image,
        "RuleParameters": {"rule_to_invoke": name, **_texts(parameters)},
    }


def _profiler(profiler: ProfilerSettings, output: str, image: str) -> dict[str, Any]:
    if not profiler.enabled:
        return {"ProfilerConfig": {"DisableProfiler": True}}
    parameters = {
        f"{rule}_{name}": value
        for rule, typed in profiler.parameters.items()
        for name, value in _mapping(typed).items()
    }
    return {
        "ProfilerConfig": {
            "S3OutputPath": output,
            "ProfilingIntervalInMilliseconds": profiler.interval_ms,
        },
        "ProfilerRuleConfigurations": [_rule(PROFILER_REPORT, image, parameters)],
    }


def _texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as the API takes them; null is AWS's default."""
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in parameters.items()
        if value is not None
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    """What is no mapping is told among the problems."""
    return value if isinstance(value, Mapping) else {}


def _parameter_problems(key: str, rule: str, parameters: Any) -> Iterator[str]:
    if parameters is not None and not isinstance(parameters, Mapping):
        yield f"{key}: {rule}: {parameters} names no parameter. Type {key}={{{rule}: {{NAME: VALUE}}}}"
    for name, value in _mapping(parameters).items():
        if isinstance(value, Mapping):
            yield f"{key}: {rule}.{name}={value}: AWS takes a number, a word or a list of them"

"""What people and SageMaker type: overrides, sweeps, hyperparameters, configuration files."""

from __future__ import annotations

import json

from fuzzing.changes import change_json, change_words
from fuzzing.target import Target, written
from sagelight.config.compose import compose, load
from sagelight.config.grammar import hydra_text, parse_override
from sagelight.config.hyperparameters import decode, encode
from sagelight.config.verbs import parse_settings
from sagelight.container.entry import read_hyperparameters
from sagelight.data.check import CheckSettings
from sagelight.debugging.hook_config import read_hook_config
from sagelight.serving.server.settings import ServeSettings
from sagelight.tuning.space import read_space, sweep_words
from sagelight.tuning.study import read_study

WORDS = (
    *"=,:[]{}()'\"\\+~@-.$*?/\n\t\0é",
    *("true", "null", "nan", "inf", "-inf", "1e999", "auto", "0x1", "1_0", "  ", "${", "${x}"),
    *("choice(", "range(", "interval(", "glob(", "tag(log,", "sort(", "shuffle(", "int(", "str("),
    *("float(", "bool(", "json_str(", "extend_list(", "${oc.env:HOME}", "${port}", "\\'", "'a b'"),
    *("optimizer.lr=", "data.batch_size=", "experiment=", "hpo=true", "-m", "model=", "augment="),
    *("trainer.max_epochs=", "debugger.parameters.Overfit.patience=", "url_hosts=", "data.root="),
    *("99999999999999999999", "0,1,2", "[1,[2]]", "{a:1,b:[]}", "step=2", "run_dir=", "resume="),
)
SINGLE = (
    "optimizer.lr=0.001",
    "model.weights='a b, c'",
    "debugger.rules=[Overfit,VanishingGradient]",
    "debugger.parameters={Overfit:{patience:3},x:[1,null,1.5e-3]}",
    "data.root=/photos/ä b\nseed=3",
    "key=\"double 'quoted'\"",
    "schedule=cosine\naugment=strong",
)
SWEEPS = (
    "data.batch_size=16,32,64",
    "optimizer.lr=tag(log,interval(0.0001,0.1))",
    "trainer.max_epochs=range(2,20,step=3)",
    "model.head_dropout=interval(0,0.5)\nmodel=resnet18,vit_b_16",
    "augment=glob(*)",
    "model.weights=choice('a,b',none)",
)
change_text = change_words(WORDS)


def _lines(data: bytes) -> list[str]:
    return data.decode(errors="surrogateescape").split("\n")


def _grammar(data: bytes) -> None:
    for line in _lines(data):
        override = parse_override(line)
        if not override.is_sweep_override():
            written_again = f"key={hydra_text(override.value())}"
            assert not parse_override(written_again).is_sweep_override()


def _sweep(data: bytes) -> None:
    sweeps = [override for line in _lines(data) if (override := parse_override(line))]
    space = read_space([each for each in sweeps if each.is_sweep_override()])
    for text in space.samples():
        parse_override(text)
    assert read_space(map(parse_override, sweep_words(space))) == space


def _settings(data: bytes) -> None:
    for schema in (ServeSettings, CheckSettings):
        parse_settings(schema, _lines(data), "sagelight serve")


def _hyperparameters(data: bytes) -> None:
    for text in decode(read_hyperparameters(written("hyperparameters.json", data))):
        assert isinstance(text, str)


def _hook_config(data: bytes) -> None:
    hook = read_hook_config(written("hook.json", data))
    for mode in ("TRAIN", "EVAL"):
        for step in (0, 1, 500):
            hook.due(mode, step)


def _hyperparameter_seeds() -> list[bytes]:
    shared = encode(["experiment=smoke", "data.root='/opt/ml/a b'"])
    wrapped = {name: json.dumps(value) for name, value in shared.items()}
    tuned = {"optimizer.lr": "0.1", "_tuning_objective_metric": "x", "sagemaker_region": '"eu"'}
    return [json.dumps(each).encode() for each in (shared, wrapped | tuned, tuned, {})]


HOOK = {
    "S3OutputPath": "s3://bucket/prefix",
    "LocalPath": "/opt/ml/output/tensors",
    "HookParameters": {"save_interval": "50", "save_steps": "1,2", "reductions": "mean,l2"},
    "CollectionConfigurations": [
        {
            "CollectionName": "weights",
            "CollectionParameters": {
                "include_regex": "weight$,bias",
                "train.save_interval": "5",
                "eval.start_step": "2",
                "save_raw_tensor": "true",
            },
        },
        {"CollectionName": "losses"},
    ],
}
TARGETS = {
    "overrides.grammar": Target(
        _grammar,
        lambda: [text.encode() for text in SINGLE + SWEEPS],
        change=change_text,
        most_bytes=300,
    ),
    "overrides.sweep": Target(
        _sweep,
        lambda: [text.encode() for text in SWEEPS],
        change=change_text,
        most_bytes=200,
    ),
    "overrides.verb": Target(
        _settings,
        lambda: [b"port=80\nurl_hosts=[a.example]", b"data.root=x\ndata=digits", b"bundle='a b'"],
        change=change_text,
        most_bytes=200,
    ),
    "overrides.compose": Target(
        lambda data: compose(_lines(data)),
        lambda: [text.encode() for text in SINGLE],
        change=change_text,
        most_bytes=200,
        seconds=3,
    ),
    "overrides.study": Target(
        lambda data: read_study(_lines(data)),
        lambda: [f"-m\n{text}".encode() for text in SWEEPS] + [b"hpo=true\nseed=2"],
        change=change_text,
        most_bytes=200,
        seconds=5,
    ),
    "overrides.config_file": Target(
        lambda data: load(written("config.yaml", data), []),
        lambda: [b"seed: 3\noptimizer:\n  lr: 0.1\n", b"data: {root: x, batch_size: 8}\n"],
        change=change_words((*WORDS, "&a ", "*a", "!!python/object:x ", "<<: ", "- ", "? ", "|\n")),
        most_bytes=300,
        seconds=3,
    ),
    "overrides.hyperparameters": Target(
        _hyperparameters, _hyperparameter_seeds, change=change_json
    ),
    "overrides.hook_config": Target(
        _hook_config, lambda: [json.dumps(HOOK).encode()], change=change_json
    ),
}

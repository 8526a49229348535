"""Calls that run or unpack what a stranger wrote: the source holds none, and a new one fails here with the way to go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [*(ROOT / "src").rglob("*.py"), *(ROOT / "launch").glob("*.py")]
# Modules whose readers run what they read, and functions of others that do.
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}  # fmt: skip
UNPICKLING = {
    "load_from_checkpoint": "read_checkpoint",
    "load_state_dict_from_url": "models.weights",
    "get_state_dict": "models.weights",
    "read_pickle": "JSON",
    "instantiate": "a dataclass",
}
# Of these modules, the functions that unpickle or run code.
OF_MODULES = {
    ("torch.hub", "load"),
    ("hub", "load"),
    ("torch.jit", "load"),
    ("jit", "load"),
    ("torch.export", "load"),
    ("export", "load"),
    ("os", "system"),
    ("os", "popen"),
}
UNSAFE_YAML = {"load", "load_all", "unsafe_load", "full_load", "unsafe_load_all", "full_load_all"}
UNPACKING = {"extractall", "extract", "unpack_archive"}
RUNNING = {"eval", "exec", "compile", "__import__"}


def found(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every dangerous call or import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
            for name in names:
                if name.partition(".")[0] in PICKLES:
                    yield node.lineno, f"import {name}"
        elif isinstance(node, ast.Call):
            name = called(node)
            if name:
                yield node.lineno, name


def _is_safe(call: ast.Call) -> bool:
    """Whether YAML is read by one of its safe loaders: libyaml's has no function of its own."""
    loaders = [ast.unparse(word.value) for word in call.keywords if word.arg == "Loader"]
    return loaders in (["SafeLoader"], ["CSafeLoader"])


def called(call: ast.Call) -> str:
    """The name of what is called, where it is dangerous; else an empty text."""
    words = ast.unparse(call.func).split(".")
    name, module = words[-1], ".".join(words[:-1])
    given = {
        word.arg: word.value.value
        for word in call.keywords
        if word.arg and isinstance(word.value, ast.Constant)
    }
    dangerous = (
        name in UNPICKLING
        or name in UNPACKING
        or (not module and name in RUNNING)
        or (module, name) in OF_MODULES
        or (name == "load" and module == "torch" and given.get("weights_only") is not True)
        or (name == "load" and module in ("np", "numpy") and given.get("allow_pickle") is not False)
        or (name in UNSAFE_YAML and module == "yaml" and not _is_safe(call))
        or given.get("shell") is True
        or given.get("allow_pickle") is True
        or given.get("weights_only") is False
    )
    return ".".join(words) if dangerous else ""


def test_no_dangerous_call() -> None:
    left = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in FILES
        for line, name in found(path.read_text(encoding="utf-8"))
    ]
    assert len(FILES) > 300
    assert not left, (
        "torch.load needs weights_only=True, np.load allow_pickle=False; archives sagelight.archives.unpack, YAML safe_load"
    )


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=careful)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "numpy.load(path, mmap_mode='r')",
        "import pickle",
        "import joblib.numpy_pickle",
        "from dill import loads",
        "from torch import multiprocessing\nimport _pickle",
        "Classifier.load_from_checkpoint(path)",
        "weights.get_state_dict(check_hash=True)",
        "torch.hub.load_state_dict_from_url(url)",
        "torch.hub.load('a/b', 'c')",
        "torch.jit.load(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "tar.extractall(folder, filter='data')",
        "zip.extract(name)",
        "shutil.unpack_archive(path)",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
        "eval(text)",
        "exec(code)",
        "hydra.utils.instantiate(node)",
        "trainer.fit(model, ckpt_path=path, weights_only=False)",
    ],
)
def test_each_of_them_would_be_found(source: str) -> None:
    assert list(found(source))


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
        "yaml.load(text, Loader=SafeLoader)",
        "network.eval()",
        "json.load(file)",
        "re.compile(text)",
        "torch.compile(network)",
    ],
)
def test_others_are_not(source: str) -> None:
    assert not list(found(source))

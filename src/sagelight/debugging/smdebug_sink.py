"""The real smdebug 1.0.34 as the writer of a trial, and the help that it needs on today's protobuf, numpy and Python.

Nothing else in sagelight imports smdebug. Its generated protobuf modules are older than what protobuf reads, so their
descriptors are taken out of them and built anew; numpy has lost `tostring`; Python 3.12 has lost distutils; bfloat16 it
never knew; and one of its files it evaluates. `make smdebug` makes an environment that has it, over the project's own.
"""

from __future__ import annotations

import ast
import atexit
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import shutil
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from sagelight.data.dataset import Batch
from sagelight.debugging.bridge import EVAL, LOSS, TRAIN, Bridge
from sagelight.debugging.hook_config import BUILT_IN, OURS, Collection, HookConfig, When
from sagelight.debugging.settings import DebuggerSettings
from sagelight.debugging.trial import Trial
from sagelight.errors import DataError, RunError, first_line
from sagelight.models.classifier import Classifier

_MESSAGES = "smdebug.core.tfevent.proto."
_TRUE, _FALSE = ("y", "yes", "t", "true", "on", "1"), ("n", "no", "f", "false", "off", "0")


class SmdebugBridge(Bridge):
    """smdebug's own hook on the inner network, from the first step to the last; then every trace of it is removed.

    Its steps are its own: one a forward pass, in TRAIN and in EVAL. An error of its own ends the watching, not the
    training.
    """

    def __init__(self, settings: DebuggerSettings, folder: Path) -> None:
        """Import smdebug.

        Raises:
            RunError: it cannot be imported, and why.
        """
        super().__init__(settings, folder)
        self.status.sink = "smdebug"
        self._usual = folder
        self._smdebug = import_smdebug()
        self._hook: Any = None
        self._marks: _Marks | None = None
        self._errors = _Errors()
        self._scores: Tensor | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._config = self._read(trainer)
        if trainer.global_rank and self._config.workers == "one":
            return
        if not self._has_room(trainer):
            return
        assert isinstance(pl_module, Classifier)
        network = pl_module.network
        self._warn_of_size(trainer, network)
        path = self._usual.with_name("debughookconfig.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(as_json(self._config, self.folder), indent=1), encoding="utf-8")
        self._marks = _Marks(network)
        network.register_forward_hook(self._keep_scores)
        self._errors = _Errors()
        try:
            hook = self._smdebug.Hook.create_from_json_file(str(path))
            self._errors.listen()
            hook.register_module(network)
            if self._errors.first is not None:
                raise self._errors.first
        except Exception as error:
            self._marks.remove()
            raise RunError(
                f"smdebug's hook cannot be made of {path}: {first_line(self._errors.first or error)}. "
                "Type debugger=default, which needs no smdebug."
            ) from error
        self._hook = hook
        self.opened = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._set_mode(TRAIN)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._steps[TRAIN] += 1
        scores, self._scores = self._scores, None
        if scores is None or outputs is None:
            return
        assert isinstance(pl_module, Classifier)
        # As our own writer: validation's loss, but where photos have no one label.
        mixed = pl_module.mix is not None
        self._record(
            outputs["loss"] * trainer.accumulate_grad_batches
            if mixed
            else nn.functional.cross_entropy(scores.float(), batch.targets)
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set_mode(EVAL)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._scores = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not trainer.sanity_checking:
            self._record(loss)
            self._steps[EVAL] += 1

    def meet_bad_loss(self, loss: Tensor) -> None:
        self._record(loss)

    def _has_room(self, trainer: pl.Trainer) -> bool:
        """smdebug cannot go on with a trial, and its own message for that is another error's."""
        ours, goes_on = self.folder == self._usual, any(self._steps.values())
        if ours and not goes_on and trainer.is_global_zero:
            # What a run left that was killed before its first checkpoint; it starts anew.
            shutil.rmtree(self.folder, ignore_errors=True)
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return True
        why = f"{self.folder} holds a trial, and smdebug cannot go on with one"
        if not ours:
            raise RunError(f"{why}. Type another LocalPath in {self.settings.hook_config}.")
        self.status.stopped = why
        if trainer.is_global_zero:
            print(f"debugger: the rest of this training is not watched: {why}", file=sys.stderr)
        return False

    def _keep_scores(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._scores = output.detach()

    def _record(self, loss: Tensor) -> None:
        if self._hook is not None:
            name = LOSS.removesuffix("_output_0")
            self._hook.record_tensor_value(name, loss.detach().float())

    def _set_mode(self, mode: str) -> None:
        if self._hook is not None:
            self._hook.set_mode(getattr(self._smdebug.modes, mode))

    def _close(self) -> None:
        hook, self._hook = self._hook, None
        if hook is None:
            return
        try:
            hook.close()
        except Exception as error:
            self._errors.exception(error)
        self._errors.stop()
        if self._errors.first is not None:
            self.status.stopped = (
                f"smdebug met an error of its own: {first_line(self._errors.first)}"
            )
            print(
                f"debugger: watching has stopped, training went on: {self.status.stopped}",
                file=sys.stderr,
            )
        self._smdebug.del_hook()
        # What else would hold the network, and write into the trial again when Python ends.
        atexit.unregister(hook._cleanup)
        atexit.unregister(hook.profiler_config_parser.stop_post_hook_close_python_profiling)
        if self._marks is not None:
            self._marks.remove()
        self._scores = None
        self._sum_up()

    def _sum_up(self) -> None:
        try:
            moments = Trial.open(self.folder).moments()
            files = [each for each in self.folder.rglob("*") if each.is_file()]
            self.status.bytes = sum(each.stat().st_size for each in files)
        except (OSError, DataError):
            return
        for mode in (TRAIN, EVAL):
            self.status.saved[mode] = sum(moment.mode == mode for moment in moments)


class _Errors:
    """Hears smdebug's own errors, which it otherwise raises into the training, or logs at length.

    It stands where smdebug's agent for errors has its logger; smdebug is disabled then, for the rest of the process.
    """

    def __init__(self) -> None:
        self.first: BaseException | None = None
        self._agent = importlib.import_module("smdebug.core.utils").error_handling_agent
        self._agent.disable_smdebug = False
        self._agent.logger = self
        self._agent.hook = None

    def listen(self) -> None:
        """Let no error out of the hook, once it is made: the agent raises what it knows a hook of."""
        self._agent.hook = None

    def stop(self) -> None:
        """Let smdebug be used again."""
        self._agent.disable_smdebug = False

    def error(self, message: str) -> None:
        """What smdebug says before the exception itself."""

    def exception(self, error: BaseException) -> None:
        """Keep the first."""
        self.first = self.first or error


class _Marks:
    """What hangs on a network before smdebug registers itself, so that the rest can be taken off; it keeps no handles."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._known = {id(hook) for hooks in self._places() for hook in hooks.values()}

    def remove(self) -> None:
        for hooks in self._places():
            for key in [key for key, hook in hooks.items() if id(hook) not in self._known]:
                del hooks[key]
        for module in self._network.modules():
            module.__dict__.pop("_module_name", None)

    def _places(self) -> list[dict[int, Any]]:
        found = []
        for module in self._network.modules():
            found += [module._forward_hooks, module._forward_pre_hooks]
        parameters: Sequence[Any] = list(self._network.parameters())
        found += [each._backward_hooks for each in parameters if each._backward_hooks]
        return found


def as_json(config: HookConfig, folder: Path) -> dict[str, Any]:
    """A configuration in the form of SageMaker's debughookconfig.json; smdebug's own four collections, and what the
    person has added.
    """
    return {
        "LocalPath": str(folder),
        "HookParameters": {"include_workers": config.workers},
        "CollectionConfigurations": [
            {"CollectionName": each.name, "CollectionParameters": _parameters(each)}
            for each in config.collections
            if each.name in BUILT_IN or _own(each)
        ],
    }


def _parameters(collection: Collection) -> dict[str, str]:
    found: dict[str, str] = {}
    for mode in (TRAIN, EVAL):
        found |= _when(mode.lower(), collection.when[mode])
    if collection.reductions:
        named = [f"{r}_norm" if r.endswith(("l1", "l2")) else r for r in collection.reductions]
        found["reductions"] = ",".join(named)
    if own := _own(collection):
        found["include_regex"] = ",".join(own)
    return found


def _own(collection: Collection) -> tuple[str, ...]:
    """The regular expressions that a person has added to a collection."""
    return tuple(r for r in collection.regexes if r != (BUILT_IN | OURS).get(collection.name))


def _when(mode: str, when: When) -> dict[str, str]:
    found = {f"{mode}.save_interval": str(when.interval), f"{mode}.start_step": str(when.start)}
    if when.steps:
        found[f"{mode}.save_steps"] = ",".join(map(str, sorted(when.steps)))
    if when.end is not None:
        found[f"{mode}.end_step"] = str(when.end)
    return found


def import_smdebug() -> Any:
    """The module `smdebug.pytorch`, helped where today's libraries would break it.

    Raises:
        RunError: it cannot be imported, and why.
    """
    try:
        help_smdebug()
        return importlib.import_module("smdebug.pytorch")
    except (ImportError, TypeError, AttributeError) as error:
        raise RunError(
            f"debugger=smdebug needs smdebug 1.0.34, which cannot be imported: {first_line(error)}. "
            "Type make smdebug, then run with .venv-smdebug/bin/python; or debugger=default, which needs nothing."
        ) from error


@functools.cache
def help_smdebug() -> None:
    """Make smdebug importable and usable; to be called before anything imports it.

    Raises:
        ImportError: it is not installed, or lacks something.
    """
    # It counts every parameter aloud.
    os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")
    _help_distutils()
    _help_protobuf()
    # Before the hook's module is imported, which reads that file at once.
    _help_evaluation()
    _help_numpy()
    _help_bfloat16()


def _help_distutils() -> None:
    if importlib.util.find_spec("distutils") is not None:
        return
    package, module = types.ModuleType("distutils"), types.ModuleType("distutils.util")
    module.strtobool = _strtobool  # type: ignore[attr-defined]
    package.util = module  # type: ignore[attr-defined]
    sys.modules["distutils"], sys.modules["distutils.util"] = package, module


def _strtobool(value: str) -> int:
    word = str(value).lower()
    if word not in (*_TRUE, *_FALSE):
        raise ValueError(f"{value!r} is neither true nor false")
    return int(word in _TRUE)


def _help_protobuf() -> None:
    old = int(importlib.import_module("google.protobuf").__version__.split(".")[0]) < 4
    if not old and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if not (fullname.startswith(_MESSAGES) and fullname.endswith("_pb2")):
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None:
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(Path(found.origin)))


class _Loader(importlib.abc.Loader):
    """Builds one of smdebug's generated modules from the serialised descriptor inside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exec_module(self, module: types.ModuleType) -> None:
        pool = importlib.import_module("google.protobuf.descriptor_pool")
        builder = importlib.import_module("google.protobuf.internal.builder")
        tree = ast.parse(self._path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("smdebug."):
                for name in node.names:
                    importlib.import_module(f"{node.module}.{name.name}")
        found = pool.Default().AddSerializedFile(_descriptor(tree, self._path))
        names = module.__dict__
        names["DESCRIPTOR"] = found
        builder.BuildMessageAndEnumDescriptors(found, names)
        builder.BuildTopDescriptorsAndMessages(found, module.__name__, names)


def _descriptor(tree: ast.Module, path: Path) -> bytes:
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
            return bytes(ast.literal_eval(node.value))
    raise ImportError(f"{path} holds no protobuf descriptor")


def _help_numpy() -> None:
    if hasattr(np.ndarray, "tostring"):
        return
    util: Any = importlib.import_module("smdebug.core.tfevent.util")
    writer: Any = importlib.import_module("smdebug.core.writer")
    tensors = importlib.import_module("smdebug.core.tfevent.proto.tensor_pb2")
    shapes = importlib.import_module("smdebug.core.tfevent.proto.tensor_shape_pb2")
    theirs = util.make_tensor_proto

    def make_tensor_proto(nparray_data: Any, tag: str) -> Any:
        numeric, dtype = util._get_proto_dtype(nparray_data.dtype)
        if not numeric:
            return theirs(nparray_data, tag)
        dims = [shapes.TensorShapeProto.Dim(size=n, name=f"{tag}_{n}") for n in nparray_data.shape]
        return tensors.TensorProto(
            dtype=dtype,
            tensor_content=nparray_data.tobytes(),
            tensor_shape=shapes.TensorShapeProto(dim=dims),
        )

    util.make_tensor_proto = writer.make_tensor_proto = make_tensor_proto


def _help_bfloat16() -> None:
    hook = importlib.import_module("smdebug.pytorch.hook").Hook
    array, reduction = hook._make_numpy_array, hook._get_reduction_of_data

    def make(tensor: Any) -> Any:
        return array(_wide(tensor))

    def reduce(name: str, tensor: Any, *others: Any, **named: Any) -> Any:
        return reduction(name, _wide(tensor), *others, **named)

    hook._make_numpy_array = staticmethod(make)
    hook._get_reduction_of_data = staticmethod(reduce)


def _wide(tensor: Any) -> Any:
    return (
        tensor.float() if isinstance(tensor, Tensor) and tensor.dtype == torch.bfloat16 else tensor
    )


def _help_evaluation() -> None:
    """A profilerconfig.json holds texts that smdebug evaluates as Python: here only literals are read from them."""
    parser: Any = importlib.import_module("smdebug.profiler.profiler_config_parser")
    parser.eval = ast.literal_eval

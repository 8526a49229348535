"""The real smdebug 1.0.34 as the writer of a trial, and the help that it needs on today's protobuf, numpy and Python.

Nothing else in sagelight imports smdebug. Its generated protobuf modules are older than what protobuf reads, so their
descriptors are taken out of them and built anew; numpy has lost `tostring`; Python 3.12 has lost distutils; bfloat16 it
never knew. `make smdebug` makes an environment that has it, over the project's own.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
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
from sagelight.debugging.hook_config import Collection, HookConfig, When
from sagelight.debugging.settings import DebuggerSettings
from sagelight.errors import RunError, first_line
from sagelight.models.classifier import Classifier

_MESSAGES = "smdebug.core.tfevent.proto."
_TRUE, _FALSE = ("y", "yes", "t", "true", "on", "1"), ("n", "no", "f", "false", "off", "0")


class SmdebugBridge(Bridge):
    """smdebug's own hook on the inner network, from the first step to the last; then every trace of it is removed.

    Its steps are its own: one a forward pass, in TRAIN and in EVAL.
    """

    def __init__(self, settings: DebuggerSettings, folder: Path) -> None:
        """Import smdebug.

        Raises:
            RunError: it cannot be imported, and why.
        """
        super().__init__(settings, folder)
        self.status.sink = "smdebug"
        self._smdebug = import_smdebug()
        self._hook: Any = None
        self._marks: _Marks | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._config = self._read(trainer)
        if trainer.global_rank and self._config.workers == "one":
            return
        if self.folder.is_dir() and any(self.folder.iterdir()):
            # smdebug's own message for this is another error's.
            raise RunError(
                f"{self.folder} holds a trial, and smdebug cannot go on with one. "
                "Type another run_dir, or debugger=default."
            )
        assert isinstance(pl_module, Classifier)
        self._warn_of_size(trainer, pl_module.network)
        path = self.folder.with_name("debughookconfig.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(as_json(self._config, self.folder), indent=1), encoding="utf-8")
        self._marks = _Marks(pl_module.network)
        self._hook = self._smdebug.Hook.create_from_json_file(str(path))
        self._hook.register_module(pl_module.network)
        self.opened = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._set_mode(TRAIN)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        pass

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if self._hook is not None and outputs is not None:
            self._record(outputs["loss"].detach() * trainer.accumulate_grad_batches)
            self._count(TRAIN)

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
        pass

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss")
        if self._hook is not None and loss is not None:
            self._record(loss)
            self._count(EVAL)

    def meet_bad_loss(self, loss: Tensor) -> None:
        if self._hook is not None:
            self._record(loss.detach())

    def _record(self, loss: Tensor) -> None:
        self._hook.record_tensor_value(LOSS.removesuffix("_output_0"), loss.float())

    def _set_mode(self, mode: str) -> None:
        if self._hook is not None:
            self._hook.set_mode(getattr(self._smdebug.modes, mode))

    def _count(self, mode: str) -> None:
        self._steps[mode] += 1
        self.status.saved[mode] = self.status.saved.get(mode, 0) + 1

    def _close(self) -> None:
        hook, self._hook = self._hook, None
        if hook is None:
            return
        agent = importlib.import_module("smdebug.core.utils").error_handling_agent
        if agent.disable_smdebug:
            self.status.stopped = "smdebug met an error of its own, and has disabled itself"
            print(f"debugger: {self.status.stopped}; training went on", file=sys.stderr)
        hook.close()
        self._smdebug.del_hook()
        if self._marks is not None:
            self._marks.remove()
        files = [each for each in self.folder.rglob("*") if each.is_file()]
        self.status.bytes = sum(each.stat().st_size for each in files)


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
            if each.name in ("losses", "weights", "biases", "gradients") or len(each.regexes) > 1
        ],
    }


def _parameters(collection: Collection) -> dict[str, str]:
    found: dict[str, str] = {}
    for mode in (TRAIN, EVAL):
        found |= _when(mode.lower(), collection.when[mode])
    if collection.reductions:
        named = [f"{r}_norm" if r.endswith(("l1", "l2")) else r for r in collection.reductions]
        found["reductions"] = ",".join(named)
    if len(collection.regexes) > 1:
        found["include_regex"] = ",".join(collection.regexes[1:])
    return found


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


def help_smdebug() -> None:
    """Make smdebug importable and usable; to be called before anything imports it."""
    _help_distutils()
    _help_protobuf()
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
    theirs = hook._make_numpy_array

    def make(tensor: Any) -> Any:
        wide = isinstance(tensor, Tensor) and tensor.dtype == torch.bfloat16
        return theirs(tensor.float() if wide else tensor)

    hook._make_numpy_array = staticmethod(make)

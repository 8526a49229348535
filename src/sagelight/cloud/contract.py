"""A request against AWS's own description of the service, without a network.

botocore ships the service model with every limit, enumeration and pattern, but before it sends a request it checks
only types, required members and minima; the rest would be refused by the service, after the upload.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from sagelight.errors import suggestion

if TYPE_CHECKING:
    from botocore.model import ServiceModel, Shape


@cache
def service_model(service: str = "sagemaker") -> ServiceModel:
    """The API of an AWS service, as the installed botocore describes it."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    description = Loader().load_service_model(service, "service-2")
    return ServiceModel(description, service)


def violations(operation: str, request: Mapping[str, Any], service: str = "sagemaker") -> list[str]:
    """Everything in `request` that the service model forbids: `path: what`, in the request's order.

    Args:
        operation: such as `CreateTrainingJob`.
    """
    shape = service_model(service).operation_model(operation).input_shape
    return list(_check(request, shape, ""))


def choices(shape: str) -> tuple[str, ...]:
    """The words of an enumeration of the service, such as `TrainingInstanceType`."""
    return tuple(service_model().shape_for(shape).enum)


def _check(value: Any, shape: Shape, path: str) -> Iterator[str]:
    kind = shape.type_name
    checker = _CHECKERS.get(kind)
    if checker is None:
        yield f"{path}: {kind} is not checked"
    else:
        yield from checker(value, shape, path)


def _structure(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path}: must be a structure, not {value!r}"
        return
    for name in shape.required_members:
        if name not in value:
            yield f"{_join(path, name)}: is missing"
    for name, inner in value.items():
        if name not in shape.members:
            yield f"{_join(path, name)}: is unknown.{suggestion(name, shape.members)}"
        else:
            yield from _check(inner, shape.members[name], _join(path, name))


def _list(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: must be a list, not {value!r}"
        return
    yield from _length(len(value), shape, path, "entries")
    for number, item in enumerate(value):
        yield from _check(item, shape.member, f"{path}[{number}]")


def _map(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path}: must be a map, not {value!r}"
        return
    yield from _length(len(value), shape, path, "entries")
    for key, item in value.items():
        yield from _check(key, shape.key, f"{path} key {key}")
        yield from _check(item, shape.value, f"{path}.{key}")


def _string(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{path}: must be text, not {value!r}"
        return
    yield from _length(len(value), shape, path, "characters")
    if shape.enum and value not in shape.enum:
        near = suggestion(value, shape.enum)
        few = f" One of {', '.join(shape.enum)}." if len(shape.enum) <= 8 else ""
        yield f"{path}: there is no {value}.{near}{few}"
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(_in_python(pattern), value):
        yield f"{path}: {value!r} does not match {pattern}"


def _number(value: Any, shape: Any, path: str) -> Iterator[str]:
    whole = shape.type_name in ("integer", "long")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        yield f"{path}: must be a {'whole ' if whole else ''}number, not {value!r}"
        return
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield f"{path}: {value} is below {least}"
    if most is not None and value > most:
        yield f"{path}: {value} is above {most}"


def _boolean(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"{path}: must be true or false, not {value!r}"


def _length(length: int, shape: Any, path: str, what: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and length < least:
        yield f"{path}: {length} {what}, and at least {least} are needed"
    if most is not None and length > most:
        yield f"{path}: {length} {what}, and at most {most} are allowed"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _in_python(pattern: str) -> str:
    """AWS writes Java patterns; the Unicode classes in them have other names in Python, which knows no surrogates."""
    for java, python in _JAVA:
        pattern = pattern.replace(java, python)
    return pattern


_JAVA = (
    (r"\p{L}", r"\w"),
    (r"\p{N}", r"\d"),
    (r"\p{Z}", r"\s"),
    (r"\p{Print}", "[ -~]"),
    (r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF"),
)
_CHECKERS = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
    "boolean": _boolean,
}

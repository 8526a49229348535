"""`--help`, made from the sentences under the settings."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from sagelight.cli import Door
from sagelight.config.groups import GROUPS, group_choices
from sagelight.config.setting import Limits, walk

WIDTH = 100


def overview(door: Door) -> str:
    """Verbs and groups, and where the settings are explained."""
    lines = [door.about, "", f"{door.command} VERB key=value ...", ""]
    for name, verb in door.verbs.items():
        lines += _entry(name, 12, verb.help)
    lines += ["", "Groups, chosen as group=choice for `train`:"]
    for group in GROUPS:
        lines += _entry(group, 12, ", ".join(group_choices(group)))
    lines += ["", f"{door.command} VERB --help     every setting of a verb", *door.closing]
    return "\n".join(lines) + "\n"


def verb_help(door: Door, name: str) -> str:
    """Every setting of one verb, with its default and its values."""
    verb = door.verbs[name]
    lines = [verb.help, "", f"  {door.command} {verb.example}", ""]
    for dotted, field in walk(verb.schema()):
        lines.append(f"  {dotted}={written(default_of(field))}")
        lines += textwrap.wrap(
            explained(field), WIDTH, initial_indent="      ", subsequent_indent="      "
        )
    return "\n".join(lines) + "\n"


def explained(field: dataclasses.Field[Any]) -> str:
    """The sentence under a setting, and the words that it may be."""
    limits: Limits = field.metadata["limits"]
    words = f" One of {', '.join(limits.choices)}." if limits.choices else ""
    return str(field.metadata["help"]) + words


def default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def written(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings_table() -> str:
    """The README's table of all training settings, in Markdown."""
    from sagelight.config.schema import Config

    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for dotted, field in walk(Config):
        text = explained(field).replace("|", "\\|")
        rows.append(f"| `{dotted}` | `{written(default_of(field))}` | {text} |")
    return "\n".join(rows) + "\n"


def _entry(name: str, indent: int, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"  {name:<{indent}}", subsequent_indent=" " * (indent + 2)
    )


def with_settings_table(readme: str) -> str:
    """The README's text with its table of settings made anew."""
    start = readme.index("| setting | default |")
    end = readme.index("\n\n", start) + 1
    return readme[:start] + settings_table() + readme[end:]


if __name__ == "__main__":
    import sys
    from pathlib import Path

    path = Path(sys.argv[1])
    path.write_text(with_settings_table(path.read_text(encoding="utf-8")), encoding="utf-8")

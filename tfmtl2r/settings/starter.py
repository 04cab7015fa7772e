"""The experiment file that ``tfmtl2r init`` writes: every key of the schema with its default and its help."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

import tomlkit

from tfmtl2r.settings.help import help_of
from tfmtl2r.settings.schema import FORMAT, Settings
from tfmtl2r.settings.values import Section, default_of, hints, name_of, section_of

HEAD = """\
# An experiment of tfmtl2r. Run it:  tfmtl2r train experiment.toml
#
# Fill in the three places marked FILL IN: your file, the column with the id of each list, and a [[tasks]] entry for
# each label. A line such as "# epochs = 8" is a key with its default: remove the "# " and change the value. To set a
# key that is "(not set)", write a line such as  loss = "softmax".  Flags of the command line override this file, and
# every key here overrides the preset (tfmtl2r list presets), such as  preset = "letor".
# Paths are relative to the folder of this file.
"""
_FILLED: dict[str, dict[str, tuple[Any, str]]] = {
    "": {"format": (FORMAT, ""), "name": ("mine", "")},
    "data": {"files": ("clicks.csv", "FILL IN: your file"), "list_id": ("query", "FILL IN: column of the list's id")},
    "tasks": {"name": ("click", "FILL IN: one [[tasks]] entry for each label"), "label": ("is_click", ""),
              "kind": ("binary", "")},
}
"""Keys that are not comments in the file: section -> key -> value and mark."""


def starter() -> str:
    """Returns the text of the file."""
    lines = [HEAD, *_keys(Settings, "")]
    for field in dataclasses.fields(Settings):
        hint = hints(Settings)[field.name]
        section = section_of(hint)
        if section is None:
            continue
        several = not (isinstance(hint, type) and issubclass(hint, Section))
        title = f"[[{field.name}]]" if several else f"[{field.name}]"
        about = (section.__doc__ or "").split("\n")[0]
        commented = several and field.name not in _FILLED
        lines += ["", f"# {about}", f"# {title}" if commented else title]
        lines += _keys(section, field.name)
    return "\n".join(lines) + "\n"


def _keys(section: type[Section], name: str) -> list[str]:
    """Returns the lines of a section's keys. Keys of ``_FILLED`` come first."""
    filled = _FILLED.get(name, {})
    lines = [f"{key} = {_toml(value)}" + (f"  # {mark}" if mark else "") for key, (value, mark) in filled.items()]
    texts = help_of(section)
    for field in dataclasses.fields(section):
        if field.name in (*filled, "options") or (section is Settings and section_of(hints(section)[field.name])):
            continue
        default = default_of(field)
        shown = f"# {name_of(field)} (not set)" if default is None else f"# {name_of(field)} = {_toml(default)}"
        lines += [shown, *textwrap.wrap(texts.get(field.name, ""), 110, initial_indent="#     ",
                                        subsequent_indent="#     ")]
    return lines


def _toml(value: Any) -> str:
    return tomlkit.item(list(value) if isinstance(value, tuple) else value).as_string()

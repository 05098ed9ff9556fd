"""What is wrong in a configuration, in the words of whoever wrote it.

Beside `config.py`, which knows where things are written. The validator speaks of inputs, tags and
parsing; here each of its kinds of mistake has a sentence that says what is wanted, and a name that
is not there is given the one that was perhaps meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from frontdesk.gateway.auth_settings import JwtSettings
from frontdesk.gateway.blueprint_settings import BlueprintSettings
from frontdesk.gateway.settings import Config, GuardrailSettings, TenantSettings

Location = tuple[str | int, ...]

WANTED = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number, not infinite",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text, in quotes",
    "path_type": "must be a path, in quotes",
    "tuple_type": "must be a list, in brackets",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dict_type": "must be a table",
    "union_tag_not_found": "kind is missing",
}
BOUNDS = {
    "greater_than": ("gt", "over"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def sentence_of(mistake: Mapping[str, Any], location: Location) -> str:
    """Return what the validator found, as `name: what is wrong with it`."""
    name = ".".join(str(part) for part in location)
    return f"{name}: {_problem(mistake, location)}".removeprefix(": ")


def _problem(mistake: Mapping[str, Any], location: Location) -> str:
    kind, more = mistake["type"], mistake.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown(str(location[-1]), among=names_at(location[:-1]))
    if kind in BOUNDS:
        bound, word = BOUNDS[kind]
        return f"must be {word} {more[bound]:g}"
    if kind in ("literal_error", "enum"):
        return f"must be {more['expected']}"
    if kind == "union_tag_invalid":
        return f"kind must be one of {more['expected_tags']}"
    if kind == "too_short":
        return f"needs at least {more['min_length']}"
    return WANTED.get(kind) or str(mistake["msg"]).removeprefix("Value error, ")


def unknown(name: str, *, among: Iterable[str]) -> str:
    """Return the sentence for a setting that there is none of."""
    near = difflib.get_close_matches(name.lower(), among, n=1)
    return "there is no such setting" + (f"; is {near[0]} meant?" if near else "")


def names_at(table: Location) -> list[str]:
    """Return the settings that a table may have."""
    match table:
        case ():
            return [*Config.model_fields]
        case ("blueprints", _):
            kinds = get_args(get_args(BlueprintSettings)[0])
            return sorted({name for kind in kinds for name in kind.model_fields})
        case ("auth", "jwt"):
            return [*JwtSettings.model_fields]
        case ("tenants", _):
            return [*TenantSettings.model_fields]
        case ("tenants", _, "guardrails"):
            return [*GuardrailSettings.model_fields]
        case (str(name),) if name in Config.model_fields:
            return [*getattr(type(Config.model_fields[name].default), "model_fields", ())]
    return []

"""The API description as a page for people: one HTML document, made from the OpenAPI description.

Below its route (`routes/description.py`). It has no script and loads nothing, so that it is there
without a network, and nobody else's code runs beside an operator's keys.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from typing import Any

Json = dict[str, Any]

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 0 auto; padding: 1rem }
h2 { border-bottom: 1px solid #8886; margin-top: 3rem }
h3 { margin: 2.5rem 0 0 }
code, pre { font: 13px/1.45 ui-monospace, monospace }
pre { background: #8881; border-radius: 4px; overflow-x: auto; padding: .6rem .8rem }
td, th { padding: .1rem 1rem .1rem 0; text-align: left; vertical-align: top }
summary { cursor: pointer }
nav ul { columns: 2; list-style: none; padding: 0 }
"""
_DIGEST = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What the page may do, as a Content-Security-Policy: nothing but look like this."""

KEY = "Needs a key, in <code>X-API-Key</code> or as <code>Authorization: Bearer</code>."
KEY_IN_QUERY = f"{KEY} Browsers may send it as <code>?api_key=</code>."


def page_of(document: Json) -> str:
    """Return the page of a description."""
    info, schemas = document["info"], document["components"]["schemas"]
    groups: dict[str, list[str]] = {}
    links: list[str] = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name, title = operation["operationId"], f"{method.upper()} {path}"
            links.append(f'<li><a href="#{escape(name)}"><code>{escape(title)}</code></a></li>')
            section = "".join(section_of(title, operation, schemas))
            groups.setdefault(operation["tags"][0], []).append(section)
    body = "".join(
        f"<h2>{escape(tag.capitalize())}</h2>{''.join(sections)}"
        for tag, sections in groups.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])} {escape(info['version'])}</title>"
        f"<style>{STYLE}</style></head><body><h1>{escape(info['title'])}</h1>"
        f"<p>{escape(info['summary'])} Version {escape(info['version'])}. For programs: "
        '<a href="openapi.json">openapi.json</a>.</p>'
        f'<nav><ul>{"".join(links)}<li><a href="#events">Events</a></li></ul></nav>'
        f'{body}<h2 id="events">Events</h2>{"".join(events_of(schemas))}</body></html>'
    )


def section_of(title: str, operation: Json, schemas: Json) -> Iterator[str]:
    """Give one operation: what it does, takes and answers."""
    name = escape(operation["operationId"])
    yield f'<h3 id="{name}"><code>{escape(title)}</code></h3><p>{_text(operation)}'
    if security := operation.get("security"):
        yield f" {KEY_IN_QUERY if {'apiKeyInQuery': []} in security else KEY}"
    yield f" In clients: <code>{name}</code>.</p>"
    if parameters := operation.get("parameters"):
        yield f"<table>{''.join(map(parameter_row, parameters))}</table>"
    if "requestBody" in operation:
        ((kind, media),) = operation["requestBody"]["content"].items()
        schema = _resolved(media["schema"], schemas)
        yield body_table(schema, schemas) if "properties" in schema else f"<p>{escape(kind)}</p>"
    for status, response in operation["responses"].items():
        yield from response_of(status, response)


def _text(part: Json) -> str:
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(part.get("description", "")))


def parameter_row(parameter: Json) -> str:
    """Return a parameter as a row of a table."""
    schema = parameter["schema"]
    kind = schema["type"] + (f", {schema['default']} by default" if "default" in schema else "")
    needed = "needed" if parameter["required"] else "optional"
    place = f"{escape(parameter['in'])}, {needed}"
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{place}</td>"
        f"<td>{escape(kind)}</td><td>{_text(parameter)}</td></tr>"
    )


def body_table(schema: Json, schemas: Json) -> str:
    """Return the fields of a body as a table."""
    rows, required = [], schema.get("required", ())
    for name, field in schema["properties"].items():
        kinds = [_kind(each, schemas) for each in field.get("anyOf", [field])]
        needed = "needed" if name in required else "optional"
        kind = " or ".join(kind for kind in kinds if kind != "null")
        rows.append(
            f"<tr><td><code>{escape(name)}</code></td><td>body, {needed}</td><td>{kind}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _kind(schema: Json, schemas: Json) -> str:
    resolved = _resolved(schema, schemas)
    if resolved.get("type") == "array":
        return f"list of {_kind(resolved['items'], schemas)}"
    return escape(str(resolved.get("type", "any JSON")))


def _resolved(schema: Json, schemas: Json) -> Json:
    """Return what a reference names, and of a schema or null the schema."""
    for each in schema.get("anyOf", [schema]):
        if "$ref" in each:
            found: Json = schemas[each["$ref"].rpartition("/")[2]]
            return found
    return schema


def response_of(status: str, response: Json) -> Iterator[str]:
    """Give one answer, its examples folded away."""
    yield f"<details><summary>{escape(status)}"
    for kind, media in response.get("content", {}).items():
        examples = [each["value"] for each in media.get("examples", {}).values()]
        examples += [media["example"]] if "example" in media else []
        codes = ", ".join(f"<code>{escape(each)}</code>" for each in media.get("examples", {}))
        yield f" {codes or escape(kind)}</summary>"
        yield from map(_example, examples)
        break
    else:
        yield f" {_text(response)}</summary>"
    yield "</details>"


def _example(example: Any) -> str:
    text = example if isinstance(example, str) else json.dumps(example, indent=2)
    return f"<pre>{escape(text)}</pre>"


def events_of(schemas: Json) -> Iterator[str]:
    """Give every event with an example."""
    for schema in schemas.values():
        if "examples" in schema and "title" in schema and schema["title"].islower():
            yield f"<h3><code>{escape(schema['title'])}</code></h3><p>{_text(schema)}</p>"
            yield from map(_example, schema["examples"])

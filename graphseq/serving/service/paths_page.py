"""The page of paths at ``/docs``: plain HTML from the OpenAPI schema, without any script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from inspect import getdoc
from typing import Any

from litestar.connection import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

from graphseq.serving.service import messages

Schema = Mapping[str, Any]

LIMITS = {"minimum": "at least", "maximum": "at most", "minItems": "from", "maxItems": "up to"}
LIMITS |= {"maxLength": "up to"}
"""Keywords of a schema and what they say."""

ENDS = {"minItems": " entries", "maxItems": " entries", "maxLength": " characters"}


class PathsPage(OpenAPIRenderPlugin):
    """Renders the schema as one page that loads nothing from elsewhere.

    Usual renderers load their scripts from a public server, which a service behind a firewall
    cannot reach.
    """

    def __init__(self) -> None:
        super().__init__(path="/", favicon='<link rel="icon" href="data:,">')

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return paths_page(openapi_schema, self.get_openapi_json_route(request)).encode()


def paths_page(schema: Schema, address: str) -> str:
    """The page of all paths of a schema.

    Args:
        schema: OpenAPI 3.1.
        address: Where the schema itself is served.
    """
    bodies = schema.get("components", {}).get("schemas", {})
    sections = [
        _section(path, method, said)
        for path, methods in schema["paths"].items()
        for method, said in methods.items()
    ]
    sections += [_body(name, body) for name, body in bodies.items()]
    page = files("graphseq.serving.service").joinpath("paths.html").read_text(encoding="utf-8")
    return page.replace("{schema}", escape(address)).replace("{sections}", "\n".join(sections))


def _section(path: str, method: str, said: Schema) -> str:
    """One path: what it does, what it takes, what it answers."""
    rows = [
        (name, f"{_kind(each['schema'])}, in the {each['in']}", _need(each, each["schema"]))
        for each in said.get("parameters", ())
        for name in (each["name"],)
    ]
    body = _content(said.get("requestBody", {}))
    if body is not None:
        rows.append(("body", _kind(body), "required"))
    answers = []
    for status, answer in said["responses"].items():
        content = _content(answer)
        kind = "" if content is None else f": {_kind(content)}"
        answers.append(f"<li><code>{escape(status)}</code>{kind}</li>")
    text = escape(said.get("description") or said.get("summary", ""))
    return (
        f"<section><h2><b>{escape(method.upper())}</b> <code>{escape(path)}</code></h2>"
        f"<p>{text}</p>{_table(rows)}<ul>{''.join(answers)}</ul></section>"
    )


def _body(name: str, body: Schema) -> str:
    """One kind of body: its fields."""
    needed = set(body.get("required", ()))
    rows = [
        (field, _kind(each), _need({"required": field in needed}, each))
        for field, each in body.get("properties", {}).items()
    ]
    title = escape(name)
    text = escape(getdoc(getattr(messages, name, None)) or "").replace("``", "")
    return f'<section id="{title}"><h2>{title}</h2><p>{text}</p>{_table(rows)}</section>'


def _content(part: Schema) -> Schema | None:
    """The schema of a body or an answer, whatever its type of media."""
    for each in part.get("content", {}).values():
        found: Schema = each.get("schema", {})
        return found
    return None


def _table(rows: list[tuple[str, str, str]]) -> str:
    lines = [
        f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{need}</td></tr>"
        for name, kind, need in rows
    ]
    return f"<table>{''.join(lines)}</table>" if lines else ""


def _need(part: Schema, schema: Schema) -> str:
    if part.get("required"):
        return "required"
    return "" if schema.get("default") is None else f"default {escape(str(schema['default']))}"


def _kind(schema: Schema) -> str:
    """What values a schema allows, in words."""
    return " or ".join(dict.fromkeys(_kinds(schema))) or "anything"


def _kinds(schema: Schema) -> Iterator[str]:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        yield f'<a href="#{name}">{name}</a>'
    limits = [
        f"{said} {schema[name]:g}{ENDS.get(name, '')}"
        for name, said in LIMITS.items()
        if name in schema
    ]
    more = f" ({', '.join(limits)})" if limits else ""
    for each in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
        yield from (kind + more for kind in _kinds(each))
    kinds = schema.get("type", ())
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "null":
            continue
        held = f" of {_kind(schema['items'])}" if "items" in schema else ""
        yield f"{'list' if kind == 'array' else escape(kind)}{held}{more}"

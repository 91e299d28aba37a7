"""The description of the API for programs, OpenAPI 3.1, made from the operations and their options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from imgrec.run.record import version_of
from imgrec.serving import parameters
from imgrec.serving.api import JSON, Operation

ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The description of some operations; JSON data."""
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _described(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "imgrec explore", "version": version_of("imgrec") or ""},
        "servers": [{"url": ".."}],
        "paths": paths,
        "security": [{"session": []}],
        "components": {"securitySchemes": {"session": {"type": "http", "scheme": "bearer"}}},
    }


def _described(operation: Operation) -> dict[str, Any]:
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    given = parameters.described(operation.options) if operation.options else []
    text = (inspect.getdoc(operation.answer) or "").split("\n")[0]
    described: dict[str, Any] = {
        "operationId": operation.answer.__name__,
        "summary": text,
        "parameters": [*named, *given],
        "responses": {
            "200": {"description": text, "content": {operation.gives: {}}},
            "default": {"description": "what is wrong", "content": {JSON: {"schema": ERROR}}},
        },
    }
    if operation.takes:
        described["requestBody"] = {"required": True, "content": {operation.takes: {}}}
    return described

"""Adds keys and refusals of the guard to every route of the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from connector.version import __version__
from connector.web.engine_access import ENGINE_PREFIX
from connector.web.guard import OPEN_PATHS
from connector.web.models import Fault

_REFERENCE: Final = {"$ref": "#/components/schemas/Fault"}
_SCHEMES: Final = {
    "adminKey": {"type": "http", "scheme": "bearer", "description": "ADMIN_API_KEY"},
    "readKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "READ_API_KEY: opens what is read, and changes nothing",
    },
    "login": {
        "type": "apiKey",
        "in": "cookie",
        "name": "connector-<NODE_ID>",
        "description": "From POST /login; opens the read API and the page.",
    },
    "settlementToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "SETTLEMENT_TOKEN, or the peer's own",
    },
}
_REFUSALS: Final = {
    "400": "The body cannot be read",
    "401": "The key is needed",
    "403": "From a page of another origin, admin is off, or the key only reads",
    "404": "There is no such thing",
    "408": "The body did not come in time",
    "409": "It does not go with how things are",
    "413": "The body is too large",
    "415": "The body is not of a kind that is taken",
    "421": "Unknown host name",
    "422": "Not valid; every fault is named",
    "429": "Too many wrong keys",
    "503": "Not now: the ledger or the disk does not let it",
}


def complete(app: FastAPI) -> None:
    """Add keys and refusals to the document, which is built when first requested."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(make())
        return app.openapi_schema

    # As the documentation of FastAPI recommends.
    app.openapi = openapi  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    document["info"]["version"] = __version__
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Fault"] = Fault.model_json_schema(by_alias=True)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            for status, text in _REFUSALS.items():
                if status == "503" and path in OPEN_PATHS:
                    continue  # there it is the answer, not a refusal
                there = responses.setdefault(status, {"description": text})
                there["content"] = {"application/json": {"schema": _REFERENCE}}
            if path not in OPEN_PATHS:
                operation["security"] = _security_of(path, reads=method in ("get", "head"))
    return document


def _security_of(path: str, *, reads: bool) -> list[dict[str, list[str]]]:
    if path.startswith(ENGINE_PREFIX + "/"):
        return [{"settlementToken": []}]
    keys: list[dict[str, list[str]]] = [{"adminKey": []}]
    if reads:
        keys.append({"readKey": []})
    return keys if path.startswith("/admin/") else [*keys, {"login": []}]

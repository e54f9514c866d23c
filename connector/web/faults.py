"""What is wrong with a request, as its answer says it: where, what, and never the value.

A value that is not valid may be a secret in the wrong place, so no answer repeats one. The name of
a field that is not known is repeated where it looks like one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from connector.base.errors import (
    ConfigError,
    ConflictError,
    ConnectorError,
    EnvironmentFault,
    KeyReusedError,
    UnknownNameError,
)
from connector.settings.faults import in_plain_words
from connector.web.guard import HEADERS

KEY_REUSED: Final = "key_reused"
"""The code of a 409: an idempotency key is that of another request."""
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_]{0,31}")
"""What names of fields look like; keys and tokens have digits, or are longer."""


def say_faults(app: FastAPI) -> None:
    """Give all errors of `app` one form: `{"error": "..."}`."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        said = faults_of(error.errors(), fields_of(request))
        return fault(422, "not valid: " + "; ".join(said))

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        said = str(error.detail)
        if error.status_code == 404 and said == "Not Found":
            said = "there is nothing at this path: /api/openapi.json has all that there is"
        elif error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            said = f"{request.method} does nothing here" + f"; {allowed} does" * bool(allowed)
        return fault(error.status_code, said, error.headers)

    @app.exception_handler(ConnectorError)
    async def refused(_request: Request, error: ConnectorError) -> Response:
        match error:
            case ConfigError():
                return fault(422, "not valid: " + "; ".join(error.faults))
            case UnknownNameError():
                return fault(404, str(error))
            case KeyReusedError():
                return fault(409, str(error), code=KEY_REUSED)
            case ConflictError():
                return fault(409, str(error))
            case EnvironmentFault():
                return fault(503, str(error))
            case _:
                raise error

    @app.exception_handler(Exception)
    async def broken(_request: Request, _error: Exception) -> Response:
        return fault(500, "an error of this node, see its log")


def fault(status: int, message: str, headers: Any = None, code: str = "") -> JSONResponse:
    """An error answer; `code`: for programs, where they have to tell it from others of its status."""
    body = {"error": message, "code": code} if code else {"error": message}
    return JSONResponse(body, status, headers={**HEADERS, **(headers or {})})


def faults_of(errors: Sequence[Any], fields: Iterable[str]) -> list[str]:
    """Where a request is not valid and why, without the value: it may be a secret.

    Args:
        errors: those of `RequestValidationError`.
        fields: the names that its body may have.
    """
    known = list(fields)
    faults: list[str] = []
    for one in errors:
        place = [str(part) for part in one["loc"]]
        if one["type"] == "extra_forbidden":
            faults.append(_unknown(place, known))
            continue
        lines = in_plain_words(one)
        if one["type"] == "model_attributes_type" and place == ["body"]:
            lines = ["not a JSON object: send one, with Content-Type: application/json"]
        elif one["type"] == "json_invalid":
            place, lines = place[:-1], ["not JSON"]
        faults += [f"{'.'.join(place)}: {line}" for line in lines]
    return list(dict.fromkeys(faults))


def _unknown(place: list[str], known: list[str]) -> str:
    *where, name = place
    if not _NAME.fullmatch(name):
        return f"{'.'.join(where)}: an unknown field, with a name that is not shown here"
    near = difflib.get_close_matches(name, known, n=1)
    return f"{'.'.join(place)}: an unknown field" + (f"; did you mean {near[0]}?" if near else "")


def fields_of(request: Request) -> list[str]:
    """The names that the body of a request may have, as its route says."""
    route = request.scope.get("route")
    body = getattr(getattr(route, "body_field", None), "field_info", None)
    model = getattr(body, "annotation", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def known_query(request: Request) -> None:
    """A dependency of routes: a query parameter that the route does not have is a fault.

    Raises:
        ConfigError: with each of them.
    """
    dependant = getattr(request.scope.get("route"), "dependant", None)
    known = [one.alias for one in getattr(dependant, "query_params", ())]
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise ConfigError(
            [
                _unknown(["query", name], known).replace("field", "parameter")
                for name in dict.fromkeys(unknown)
            ]
        )

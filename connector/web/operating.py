"""Operating from the page: which logins may change something, and who asks for a change.

A login reads, until its key has been given again for operating (`POST /login` with `"operate": true` and
ADMIN_API_KEY). Then it may change something for an hour. Every such request has to bring the token
of its login in `X-CSRF-Token`: the page asks for it at `/api/session`, which no page of another origin
can read, and a browser never adds it by itself. The guard has compared the origin before.
"""

from __future__ import annotations

import hashlib
import hmac
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Request

from connector.web import models
from connector.web.access import Access

CSRF_HEADER: Final = "x-csrf-token"
_CSRF_LABEL: Final = b"connector csrf"
CSRF_WRONG: Final = "X-CSRF-Token is missing or is not that of this login: see /api/session"


class Caller(NamedTuple):
    """Who asks for what is being done."""

    via: str = "key"
    """`key`: a request with ADMIN_API_KEY; `page`: a login of a browser."""
    address: str = ""


BY_KEY: Final = Caller()
CALLER: ContextVar[Caller] = ContextVar("caller", default=BY_KEY)
"""Of the request that is being answered; set by the guard, for the record of an action."""


def csrf_of(token: str) -> str:
    """What a request of a login has to bring with it."""
    return hmac.new(token.encode(), _CSRF_LABEL, hashlib.sha256).hexdigest()


def is_of(token: str, given: str) -> bool:
    """Whether `given`, the header `X-CSRF-Token`, is that of a login's token."""
    return hmac.compare_digest(csrf_of(token).encode(), given.encode())


def session_router(access: Access) -> APIRouter:
    """`/api/session`: what the page may do."""
    router = APIRouter(prefix="/api", tags=["login"])

    @router.get(
        "/session",
        summary="What the login of this browser may do",
        response_model=None,
        responses={200: {"model": models.Session}},
    )
    async def session(request: Request) -> dict[str, Any]:
        cookie = request.headers.get("cookie", "")
        token = access.operating_token(cookie)
        return {
            "role": "read" if token is None else "operate",
            "loggedIn": access.has_cookie(cookie),
            "canOperate": access.has_key,
            "operatesForSeconds": 0 if token is None else access.operates_for_s(cookie),
            "csrfToken": None if token is None else csrf_of(token),
        }

    return router

"""Login: exchanges the key for a cookie, for the script of the page and for a plain form."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from connector.base.wrong_keys import Denied
from connector.web.access import Access
from connector.web.guard import Scope, page_headers, source_of, throttled
from connector.web.proxies import base_of, forwarded, is_https
from connector.web.roles import Role

# Under `no-referrer` a browser sends a form with `Origin: null`, which the guard refuses.
_FORM: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{base}<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="same-origin">
<title>Log in: {node_id}</title>
<link rel="stylesheet" href="login.css">
</head>
<body>
<main>
<h1>{node_id}</h1>
<form method="post" action="login">
<label for="key">Key</label>
<input id="key" name="key" type="password" autocomplete="current-password" autofocus required>
<button>Log in</button>
</form>
<p role="alert">{message}</p>
<p>It is the <code>ADMIN_API_KEY</code> that this connector was started with, or its
<code>READ_API_KEY</code>.</p>
</main>
</body>
</html>
"""
_STYLE: Final = """
:root { color-scheme: dark; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: #0b0f14;
  color: #d6dde6; font: 15px/1.5 system-ui, sans-serif; }
main { width: min(22rem, 90vw); }
h1 { font-size: 1.2rem; font-weight: 600; overflow-wrap: anywhere; }
label { display: block; margin-bottom: .3rem; color: #93a1b1; }
input, button { box-sizing: border-box; width: 100%; padding: .6rem .7rem; border-radius: .4rem;
  font: inherit; }
input { border: 1px solid #2a3542; background: #121821; color: inherit; }
button { margin-top: .7rem; border: 0; background: #2f6feb; color: #fff; font-weight: 600; }
input:focus-visible, button:focus-visible { outline: 2px solid #79a8ff; outline-offset: 2px; }
p { color: #93a1b1; font-size: .9rem; }
p[role=alert] { color: #fb7185; }
"""


def login_page(node_id: str, message: str = "", prefix: str = "") -> bytes:
    """The form.

    Args:
        node_id: has only letters, digits, `_`, `~` and `-`.
        message: why a login was refused.
        prefix: see `Forwarded`.
    """
    return _FORM.format(node_id=node_id, message=message, base=base_of(prefix)).encode()


def login_router(access: Access, node_id: str) -> APIRouter:
    """`/login`, `/logout`."""
    router = APIRouter(tags=["login"])

    def refused(scope: Scope, status: int, message: str, form: bool, **headers: str) -> Response:
        if form:
            prefix = forwarded(scope).prefix
            text = login_page(node_id, message, prefix)
            return HTMLResponse(text, status, headers={**headers, **page_headers(prefix)})
        return JSONResponse({"error": message}, status, headers=headers)

    @router.get("/login", response_class=HTMLResponse, summary="The login form")
    async def form(request: Request) -> Response:
        prefix = forwarded(request.scope).prefix
        return HTMLResponse(login_page(node_id, prefix=prefix), headers=page_headers(prefix))

    @router.get("/login.css", include_in_schema=False)
    async def style() -> Response:
        return Response(_STYLE, media_type="text/css")

    @router.post(
        "/login",
        summary="A cookie for the key",
        status_code=204,
        responses={401: {"description": "Wrong key"}, 429: {"description": "Too many wrong keys"}},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["key"],
                            "properties": {
                                "key": {"type": "string", "format": "password"},
                                "operate": {
                                    "type": "boolean",
                                    "description": "Whether it may change something, for an hour; "
                                    "ADMIN_API_KEY only.",
                                },
                            },
                        }
                    }
                },
            }
        },
    )
    async def log_in(request: Request) -> Response:
        scope = request.scope
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_form = kind == "application/x-www-form-urlencoded"
        if not access.has_login:
            return refused(scope, 403, "there is no key to log in with: set ADMIN_API_KEY", is_form)
        body = await request.body()
        given = _key_in(body, is_form=is_form)
        if given is None:
            return refused(scope, 422, 'not valid: {"key": "..."} is expected', is_form)
        operate = not is_form and _wants_to_operate(body)
        source = source_of(scope)
        match access.by_key(given, source):
            case Role.READ if operate:
                return refused(scope, 403, "READ_API_KEY only reads: give ADMIN_API_KEY", is_form)
            case Role.OPERATE | Role.READ as role:
                # The former login would go on beside the new one, which the browser shows instead.
                access.log_out(request.headers.get("cookie", ""), secure=False)
                place = forwarded(scope).prefix or "/"
                secure = is_https(scope)
                made = access.new_cookie(role, source, secure=secure, path=place, operate=operate)
                cookie = {"Set-Cookie": made}
                if is_form:
                    return RedirectResponse("./", 303, headers=cookie)
                return Response(status_code=204, headers=cookie)
            case Denied.THROTTLED:
                refusal = throttled(access, source)
                wait = {"Retry-After": str(access.retry_after_s(source))}
                return refused(scope, 429, refusal.message, is_form, **wait)
            case _:
                return refused(scope, 401, "this is not the key", is_form)

    @router.post("/logout", summary="End the login, and its live feeds", status_code=204)
    async def log_out(request: Request) -> Response:
        place, secure = forwarded(request.scope).prefix or "/", is_https(request.scope)
        given = request.headers.get("cookie", "")
        cookie = access.log_out(given, secure=secure, path=place)
        return Response(status_code=204, headers={"Set-Cookie": cookie})

    return router


def _key_in(body: bytes, *, is_form: bool) -> str | None:
    try:
        if is_form:
            found: Any = parse_qs(body.decode(), max_num_fields=4).get("key", [None])[0]
        else:
            content = json.loads(body)
            found = content.get("key") if isinstance(content, dict) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) and found else None


def _wants_to_operate(body: bytes) -> bool:
    """For a body that has a key in JSON."""
    return json.loads(body).get("operate") is True

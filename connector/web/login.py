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
<svg viewBox="0 0 32 32" aria-hidden="true"><path d="M6 16h20"/><circle class="owed" cx="6" cy="16" r="4.5"/>
<circle class="node" cx="16" cy="16" r="3.5"/><circle class="owing" cx="26" cy="16" r="4.5"/></svg>
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
:root { color-scheme: light dark; --line: light-dark(#b3c0ce, #2c3b4b); --muted: light-dark(#44535f, #98a8b9);
  --sky: light-dark(#0a589f, #5eb7ff); --rose: light-dark(#a30f34, #fb7185);
  --emerald: light-dark(#04614a, #34d399); font-size: clamp(13.5px, 9.6px + 0.3vw, 21px); }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem;
  background: radial-gradient(80rem 30rem at 15% -12rem, rgb(52 120 190 / .13), transparent 70%),
    radial-gradient(60rem 26rem at 90% -14rem, rgb(52 211 153 / .07), transparent 70%),
    light-dark(#eff3f7, #090d12);
  color: light-dark(#17212c, #dbe4ee); font: 1rem/1.45 system-ui, -apple-system, "Segoe UI", Roboto,
  "Noto Sans", "DejaVu Sans", sans-serif; }
main { display: grid; gap: .6rem; width: min(24rem, 100%); padding: 1.8rem; border: 1px solid var(--line);
  border-radius: 1rem; background: light-dark(#fff, #10171f); }
svg { width: 2.1rem; height: 2.1rem; fill: none; stroke: var(--sky); stroke-width: 2; }
.owed { fill: var(--emerald); stroke: none; }
.owing { fill: var(--rose); stroke: none; }
.node { fill: light-dark(#eff3f7, #090d12); }
h1 { margin: 0; font-size: 1.25rem; font-weight: 650; overflow-wrap: anywhere; }
form { display: grid; gap: .6rem; }
input, button { width: 100%; height: 2.25rem; padding: 0 .7rem; border-radius: .5rem; font: inherit; }
input { border: 1px solid var(--line); background: light-dark(#fbfcfe, #0c1219); color: inherit; }
button { border: 0; background: var(--sky); color: light-dark(#fff, #04121f); font-weight: 600; }
button:hover { background: light-dark(#0d6fc4, #86c9ff); }
input:focus-visible, button:focus-visible { outline: 2px solid var(--sky); outline-offset: 2px; }
p { margin: 0; color: var(--muted); font-size: .9rem; }
p[role=alert] { color: var(--rose); }
p[role=alert]:empty { display: none; }
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

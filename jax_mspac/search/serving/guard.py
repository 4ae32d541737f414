"""Who may ask: the token, where a request comes from, and what a browser is told of the answer."""

import hmac
from collections.abc import Collection
from urllib.parse import urlencode

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not "no-referrer": a browser would then send no Origin with a form of this page.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_SAFE = ("GET", "HEAD")
_COOKIE_SECONDS = 30 * 24 * 3600


class Guard:
    """ASGI middleware that lets through what a person at the page, or a program with the token, has sent.

    Args:
      app: what answers.
      token: without it nothing is answered; None where the machine's own users may all ask.
      hosts: names by which the server may be called, without ports; () for any. It keeps out pages of other sites whose
        name was made to lead to this machine.
      cookie: the name of the one that holds the token after its first use.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Collection[str], cookie: str):
        self._app, self._token, self._hosts, self._cookie = app, token, hosts, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refused(scope)
        await (self._app if refused is None else refused)(scope, receive, send_with_headers)

    def _refused(self, scope: Scope) -> Response | None:
        """The answer to a request that is not let through."""
        headers = Headers(scope=scope)
        if self._hosts and _name_of(headers.get("host", "")) not in self._hosts:
            return PlainTextResponse("This server does not go by that name; open it as localhost.", 421)
        if _crosses(scope["method"], headers):
            return PlainTextResponse("Sent by a page of another site.", 403)
        if self._token is None or self._is_token(_token_of(headers, self._cookie)):
            return None
        asked = QueryParams(scope["query_string"])
        if scope["method"] in _SAFE and self._is_token(asked.get(TOKEN, "")):
            # On to the same address without the token, which then is neither shown nor kept in the history.
            rest = urlencode([(name, value) for name, value in asked.multi_items() if name != TOKEN])
            answer = RedirectResponse(f"/{'?' + rest if rest else ''}", 303)
            answer.set_cookie(
                self._cookie, self._token, max_age=_COOKIE_SECONDS, httponly=True, samesite="lax", path="/"
            )
            return answer
        told = "A token is needed: open the address that the command printed, or send Authorization: Bearer TOKEN."
        return PlainTextResponse(told, 401, {"www-authenticate": "Bearer"})

    def _is_token(self, given: str) -> bool:
        # In a time that does not tell how much of it is right.
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())


def _token_of(headers: Headers, cookie: str) -> str:
    kind, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if kind.lower() == "bearer" else cookie_parser(headers.get("cookie", "")).get(cookie, "")


def _crosses(method: str, headers: Headers) -> bool:
    """Whether a page of another site made the browser send this; a link to the page itself may be anywhere."""
    if (origin := headers.get("origin")) is not None and method not in _SAFE:
        return origin.partition("://")[2].lower() != headers.get("host", "").lower()
    site = headers.get("sec-fetch-site", "none")
    link = (
        method in _SAFE and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )
    return site not in ("none", "same-origin") and not link


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() and name else host).lower()

"""Who is let in, and what a browser is told."""

import contextlib
import socket

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from jax_mspac.errors import UserError
from jax_mspac.search.serving import server
from jax_mspac.search.serving.guard import Guard

TOKEN = "a-token-of-some-length"


def client(token=None, hosts=()):
    async def answer(request):
        return PlainTextResponse("in")

    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])
    guarded = Guard(app, token=token, hosts=hosts, cookie="search_8000")
    return TestClient(guarded, base_url="http://127.0.0.1:8000", follow_redirects=False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer a-token-of-some-lengtH"},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": "search_8000=other"},
        {"cookie": f"search_8001={TOKEN}"},
        {"cookie": "search_8000=\u00e9".encode()},
    ],
)
def test_nobody_gets_in_without_the_token(headers):
    asked = client(TOKEN)
    for method in ("GET", "POST"):
        assert asked.request(method, "/", headers=headers).status_code == 401
    assert asked.get("/?token=wrong").status_code == 401 and asked.post(f"/?token={TOKEN}").status_code == 401


def test_the_token_is_needed_once():
    asked = client(TOKEN)
    first = asked.get(f"/?token={TOKEN}&a=1")
    assert first.status_code == 303 and first.headers["location"] == "/?a=1"
    cookie = first.headers["set-cookie"].lower()
    assert f"search_8000={TOKEN}" in cookie and "httponly" in cookie and "samesite=lax" in cookie
    assert asked.get("/").text == asked.post("/").text == "in"
    assert client(TOKEN).get("/", headers={"authorization": f"Bearer {TOKEN}"}).text == "in"


@pytest.mark.parametrize("token", [None, TOKEN])
def test_pages_of_other_sites_send_nothing(token):
    asked = client(token)
    asked.cookies.set("search_8000", TOKEN)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8001", "http://127.0.0.1:8000.evil.example"):
        assert asked.post("/", headers={"origin": origin}).status_code == 403, origin
    for site in ("cross-site", "same-site"):
        assert asked.post("/", headers={"sec-fetch-site": site}).status_code == 403
        # As an <img> or fetch() of the other page; a link to ours may be clicked.
        image = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
        assert asked.get("/", headers=image).status_code == 403
        frame = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
        assert asked.get("/", headers=frame).status_code == 403
        link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        assert asked.get("/", headers=link).text == "in"
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert asked.post("/", headers=own).text == asked.get("/", headers=own).text == "in"


def test_a_name_that_was_made_to_lead_here_is_refused():
    asked = client(hosts={"127.0.0.1", "localhost", "[::1]"})
    for host, status in (
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ):
        assert asked.get("/", headers={"host": host}).status_code == status, host


def test_every_answer_tells_browsers_to_be_strict():
    for answer in (client().get("/"), client(TOKEN).get("/"), client().get("/nowhere")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_other_machines_need_a_token(monkeypatch):
    monkeypatch.delenv(server.TOKEN_VARIABLE, raising=False)
    for host in ("127.0.0.1", "127.0.0.5", "::1", "localhost"):
        assert server.token_for(host) is None
    made = {server.token_for(host) for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example")}
    assert len(made) == 5 and min(map(len, made)) >= 43
    monkeypatch.setenv(server.TOKEN_VARIABLE, TOKEN)
    assert server.token_for("0.0.0.0") == server.token_for("127.0.0.1") == TOKEN
    for bad in ("short", "with a space in it and long", "a;cookie=that-goes-on-and-on"):
        monkeypatch.setenv(server.TOKEN_VARIABLE, bad)
        with pytest.raises(UserError, match="JAX_MSPAC_TOKEN is no token; expected 16 or more"):
            server.token_for("127.0.0.1")


def test_an_address_that_cannot_be_had_is_told():
    with contextlib.closing(server.listener("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=f"--port {port}: Address already in use; stop what uses it, or give another"
        ):
            server.listener("127.0.0.1", port)
    server.listener("127.0.0.1", port).close()
    with pytest.raises(UserError, match="--host 203.0.113.7 --port 0: Cannot assign requested address; give another"):
        server.listener("203.0.113.7", 0)
    with pytest.raises(UserError, match="--host no.such.host.invalid: .*expected a name or an address of this machine"):
        server.listener("no.such.host.invalid", 0)
    if socket.has_ipv6:
        with contextlib.suppress(UserError), contextlib.closing(server.listener("::1", 0)) as sixth:
            assert sixth.getsockname()[0] == "::1"

"""Where an index on a Qdrant server is, and what is told where no such server answers."""

import http.server
import socket
import threading
import time

import pytest

from jax_mspac.errors import UserError
from jax_mspac.search import stores

pytest.importorskip("qdrant_client")
from jax_mspac.search import qdrant_collection  # noqa: E402
from jax_mspac.search.qdrant_collection import TOKEN_VARIABLE, Address  # noqa: E402


@pytest.mark.parametrize(
    "text, url, name",
    [
        ("qdrant+http://localhost/people", "http://localhost:6333", "people"),
        ("qdrant+https://db.example.org:443/people-2", "https://db.example.org:443", "people-2"),
        ("qdrant+http://[::1]:1234/a_b.c", "http://[::1]:1234", "a_b.c"),
        ("qdrant+https://example.org/behind/a/proxy/people", "https://example.org:6333/behind/a/proxy", "people"),
    ],
)
def test_addresses(text, url, name):
    address = Address.of(text)
    assert (address.url, address.name) == (url, name) and Address.of(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "qdrant+http://localhost:6333",
        "qdrant+http://localhost:6333/",
        "qdrant+http:///people",
        "qdrant+http://localhost:port/people",
        "qdrant+http://localhost/a b",
        "qdrant+http://localhost/..",
        "qdrant+file:///people",
    ],
)
def test_what_is_no_address_is_named(text):
    with pytest.raises(UserError, match="expected qdrant.http://HOST:6333/NAME"):
        stores.opened(text, create=True)


@pytest.mark.parametrize("text", ["http://u:secret@localhost/people", "http://localhost/people?api_key=secret"])
def test_a_token_is_not_in_an_address(text):
    with pytest.raises(UserError, match=f"neither user nor options.*{TOKEN_VARIABLE}") as error:
        stores.opened(f"qdrant+{text}", create=True)
    assert "secret" not in str(error.value)


def test_no_server_is_told_within_seconds():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port, start = taken.getsockname()[1], time.monotonic()
        with pytest.raises(UserError, match=f"127.0.0.1:{port}/people: no answer from the server .*refused"):
            stores.opened(f"qdrant+http://127.0.0.1:{port}/people", create=True)
    with pytest.raises(UserError, match="no answer from the server"):
        stores.opened("qdrant+http://no-such-host.invalid/people", create=True)
    assert time.monotonic() - start < 10


def test_a_server_that_says_nothing_is_told(monkeypatch):
    monkeypatch.setattr(qdrant_collection, "_ANSWER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(UserError, match="no answer from the server .*timed out"):
            stores.opened(f"qdrant+http://127.0.0.1:{silent.getsockname()[1]}/people", create=True)


def test_a_server_of_something_else_is_told():
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        with pytest.raises(UserError, match="the server answers 501: .*does something else answer at this address"):
            stores.opened(f"qdrant+http://127.0.0.1:{other.server_address[1]}/people", create=True)
        thread.join()

"""The command: an address to listen at, the token, and the server until a signal ends it."""

import contextlib
import errno
import ipaddress
import os
import re
import secrets
import socket
import sys

import uvicorn

from jax_mspac.errors import UserError
from jax_mspac.runs.inference import Model
from jax_mspac.runtime import preemption
from jax_mspac.search.serving.app import application
from jax_mspac.search.serving.guard import TOKEN
from jax_mspac.search.serving.searcher import Searcher

# Sets the token, also for an address that needs none.
TOKEN_VARIABLE = "JAX_MSPAC_TOKEN"
_SHORTEST_TOKEN = 16
# Requests at a time; each may hold an upload.
_MOST_REQUESTS = 64
_GRACE_SECONDS = 5


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens at an address. What connects before there is a server waits.

    Args:
      host: a name or an address of this machine.
      port: 0 for any that is free.

    Raises:
      UserError: there is no such address here, or the port is in use or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UserError(f"--host {host}: {error.strerror}; expected a name or an address of this machine") from error
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError as error:
        made.close()
        mend = "stop what uses it, or give another --port" if error.errno == errno.EADDRINUSE else "give another"
        raise UserError(f"--host {host} --port {port}: {error.strerror}; {mend}") from error
    return made


def token_for(host: str) -> str | None:
    """The token that the environment names, or a new one where others can reach the host; None where none is needed.

    Raises:
      UserError: the one in the environment is too short.
    """
    given = os.environ.get(TOKEN_VARIABLE, "")
    if given and not re.fullmatch(rf"[\w.~-]{{{_SHORTEST_TOKEN},}}", given, re.ASCII):
        raise UserError(
            f"{TOKEN_VARIABLE} is no token; expected {_SHORTEST_TOKEN} or more letters, digits, '-' or '_' that nobody "
            "guesses"
        )
    return given or (None if is_loopback(host) else secrets.token_urlsafe(32))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def serve(index: str | os.PathLike, model: Model, listening: socket.socket, *, host: str) -> None:
    """Serves the page of an index until a signal ends the process.

    Args:
      index: its folder or address.
      model: that of the index.
      listening: see `listener`.
      host: by which name it was made.

    Raises:
      UserError: the index is empty or of another model, or the token is too short.
    """
    token, port = token_for(host), listening.getsockname()[1]
    with contextlib.closing(Searcher(index, model)) as searcher:
        searcher.warm()
        # A page of another site whose name leads here has no cookie of ours, so names matter where none is asked for.
        hosts = () if token else {"localhost", "127.0.0.1", "[::1]", _bracketed(host).lower()}
        app = application(searcher, token=token, hosts=hosts, cookie=f"search_{port}")
        config = uvicorn.Config(
            app,
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_REQUESTS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        name = socket.gethostname() if host in ("0.0.0.0", "::") else _bracketed(host)
        print(f"http://{name}:{port}/{f'?{TOKEN}={token}' if token else ''}", flush=True)
        print("Ctrl-C ends it", file=sys.stderr, flush=True)
        with contextlib.suppress(preemption.Interrupted):  # it is how this command ends
            uvicorn.Server(config).run(sockets=[listening])


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

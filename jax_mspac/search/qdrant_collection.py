"""A collection of points on a Qdrant server: how it is reached, what its errors mean, and which points there are.

One collection holds an index. Its points are of three kinds: entries, with a feature; facts and marks, without one.
What a point stands for gives it its id, so that storing it again replaces it.
"""

import contextlib
import dataclasses
import os
import re
import urllib.parse
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from jax_mspac.errors import UserError

TOKEN_VARIABLE = "JAX_MSPAC_STORE_TOKEN"
ENTRY, FACT, MARK = "entry", "fact", "mark"
FEATURE = "feature"
# What tells that a collection is an index, in the collection's metadata, and the version of its points.
_NAME, _VERSION = "jax_mspac", 1
# Fields of points by which the server selects, counts or sorts.
_INDEXED = dict.fromkeys(("kind", "path", "within", "modality", "camera", "query"), "keyword") | {"time": "float"}
_IDS = uuid.UUID("5ba6f3ab-9d3c-5d5c-9e0f-6d1f2d3b7a55")
_EXPECTED = "expected qdrant+http://HOST:6333/NAME, or qdrant+https://"
_PORT = 6333
# To find a server; and for its answer, which with many entries takes long to search for.
_CONNECT_SECONDS, _ANSWER_SECONDS = 5, 300
# Points that are asked for at a time.
PART = 500


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a collection is: the URL of its server, and its name.

    Raises:
      UserError: a text is no such address.
    """

    url: str
    host: str
    name: str

    @classmethod
    def of(cls, text: str) -> "Address":
        """Reads qdrant+http://HOST:PORT/NAME; the port is 6333 unless it is given, and folders may precede NAME."""
        parts = urllib.parse.urlsplit(text.removeprefix("qdrant+"))
        try:
            host, port = parts.hostname, parts.port or _PORT
        except ValueError as error:
            raise UserError(f"{text}: {error}; {_EXPECTED}") from error
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise UserError(
                f"qdrant+{parts.scheme}://{host}: an address has neither user nor options; {_EXPECTED}, and the token "
                f"in the environment variable {TOKEN_VARIABLE}"
            )
        prefix, _, name = parts.path.rpartition("/")
        if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[\w-][\w.-]*", name, re.ASCII):
            raise UserError(f"{text}: {_EXPECTED}, where NAME has letters, digits, '-', '_' and '.'")
        at = f"[{host}]" if ":" in host else host
        return cls(f"{parts.scheme}://{at}:{port}{prefix}", host, name)

    def __str__(self) -> str:
        return f"qdrant+{self.url}/{self.name}"

    @property
    def is_open(self) -> bool:
        """Whether others on a network could read what is sent."""
        return self.url.startswith("http:") and self.host not in ("localhost", "127.0.0.1", "::1")


def id_of(kind: str, name: str) -> str:
    """The id of the point that stands for an entry's path, a fact's name, or a mark's query and path."""
    return str(uuid.uuid5(_IDS, f"{kind} {name}"))


def selected(kind: str, *conditions: models.Condition, **values: str | Sequence[str] | None) -> models.Filter:
    """The points of a kind that meet conditions, with a value of a field or one of several; None and () are any."""
    given: dict[str, Any] = {"kind": kind, **values}
    must: list[Any] = [
        models.FieldCondition(
            key=key,
            match=models.MatchValue(value=value) if isinstance(value, str) else models.MatchAny(any=list(value)),
        )
        for key, value in given.items()
        if value is not None and value != ()
    ]
    return models.Filter(must=[*must, *conditions])


class Collection:
    """The connection to a collection, whether it is there yet or not. May be used by several threads.

    Args:
      text: see `Address`.

    Raises:
      UserError: the text is no address.
    """

    def __init__(self, text: str):
        self.address = Address.of(text)
        # A variable, because what is on a command line can be read by others on the machine.
        token = os.environ.get(TOKEN_VARIABLE, "")
        if token and self.address.is_open:
            warnings.warn(
                f"{TOKEN_VARIABLE} goes to {self.address.url} unencrypted; qdrant+https hides it from the network",
                stacklevel=2,
            )
        self._client = QdrantClient(
            url=self.address.url,
            port=None,
            headers={"api-key": token} if token else {},
            timeout=_ANSWER_SECONDS,
            check_compatibility=False,
            event_hooks={"request": [_connect_soon]},
        )
        self._metadata: dict[str, Any] | None = None

    def close(self) -> None:
        """Lets go of the connection."""
        self._client.close()

    def metadata(self) -> dict[str, Any] | None:
        """What the collection was made with: "model" and "dimensions"; None while there is no collection.

        Raises:
          UserError: the collection is no index, or the server does not answer.
        """
        if self._metadata is None and self.ask("collection_exists"):
            info = self.ask("get_collection")
            told = (info.config.metadata or {}).get(_NAME) or {}
            if told.get("version") != _VERSION:
                raise UserError(
                    f"{self.address}: the collection is no index of this version of jax_mspac; name another one, or "
                    "the server is older than Qdrant 1.16, the first to note what a collection is"
                )
            # Another process is about to, or was interrupted before; it does no harm twice.
            for field, kind in _INDEXED.items():
                if field not in info.payload_schema:
                    self.ask("create_payload_index", field_name=field, field_schema=kind, wait=True)
            self._metadata = {"model": told["model"], "dimensions": info.config.params.vectors[FEATURE].size}
        return self._metadata

    def make(self, model: Mapping[str, Any], dimensions: int) -> None:
        """Makes the collection unless it is there. Of several processes that do at once, one gives the model.

        Raises:
          UserError: see `metadata`.
        """
        if self.metadata() is not None:
            return
        # Exact search reads all features; a graph of neighbors would be built for nothing.
        params = models.VectorParams(size=dimensions, distance=models.Distance.DOT, on_disk=True)
        try:
            self.ask(
                "create_collection",
                vectors_config={FEATURE: params},
                hnsw_config=models.HnswConfigDiff(m=0),
                metadata={_NAME: {"version": _VERSION, "model": dict(model)}},
            )
        except UserError:
            if self.metadata() is None:  # no other process was faster
                raise
        self.metadata()

    def ask(self, what: str, **arguments: Any) -> Any:
        """What a method of the client answers about this collection.

        Raises:
          UserError: the server does not answer, refuses, or says that this cannot be done.
        """
        with self._explained():
            return getattr(self._client, what)(self.address.name, **arguments)

    def count(self, condition: models.Filter) -> int:
        """How many points are selected."""
        return self.ask("count", count_filter=condition, exact=True).count

    def all(self, condition: models.Filter, *, fields: bool | list[str] = True) -> Iterator[models.Record]:
        """The points that are selected, with their fields, in the order of their ids."""
        offset = None
        while True:
            found, offset = self.ask(
                "scroll", scroll_filter=condition, limit=PART, offset=offset, with_payload=fields, with_vectors=False
            )
            yield from found
            if offset is None:
                return

    def points(self, ids: Iterable[str], kind: str, *, features: bool = False) -> dict[str, models.Record]:
        """The points of these ids that are there and of a kind, by id, with their fields or with their features."""
        found: dict[str, models.Record] = {}
        for some in parts(list(ids)):
            records = self.ask("retrieve", ids=some, with_payload=["kind"] if features else True, with_vectors=features)
            found |= {record.id: record for record in records if record.payload["kind"] == kind}
        return found

    def put(self, points: Sequence[models.PointStruct]) -> None:
        """Stores points in place of those with their ids; they are stored when this returns."""
        self.ask("upsert", points=list(points), wait=True)

    def remove(self, selector: models.Filter | Sequence[str]) -> None:
        """Removes the points that are selected, or of these ids; they are gone when this returns."""
        if isinstance(selector, models.Filter):
            self.ask("delete", points_selector=models.FilterSelector(filter=selector), wait=True)
            return
        for some in parts(selector):
            self.ask("delete", points_selector=models.PointIdsList(points=list(some)), wait=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns errors of the client into ones that say what to do."""
        at = self.address
        try:
            yield
        except ResponseHandlingException as error:
            raise UserError(
                f"{at}: no answer from the server ({_first_line(error.source)}). Does it run at this address, and does "
                "the network lead there? The same command goes on where it stopped"
            ) from error
        except UnexpectedResponse as error:
            if error.status_code in (401, 403):
                given = "refuses the token of" if os.environ.get(TOKEN_VARIABLE) else "asks for a token: set"
                raise UserError(f"{at}: the server {given} {TOKEN_VARIABLE}") from error
            raise UserError(f"{at}: the server answers {error.status_code}: {_reason(error)}") from error
        except (ApiException, QdrantException) as error:
            raise UserError(f"{at}: {_first_line(error)}") from error


def parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Some values at a time."""
    return (values[start : start + PART] for start in range(0, len(values), PART))


def _connect_soon(request: Any) -> None:
    """A server that cannot be reached is told in seconds, whatever time an answer may take."""
    request.extensions["timeout"]["connect"] = _CONNECT_SECONDS


def _reason(error: UnexpectedResponse) -> str:
    try:
        return str(error.structured()["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return f"{error.reason_phrase}; Qdrant says more: does something else answer at this address?"


def _first_line(error: object) -> str:
    return (str(error) or type(error).__name__).strip().partition("\n")[0]

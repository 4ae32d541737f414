"""Qdrant's REST API on a port of this machine, over the client's own implementation of a server in memory.

Requests are checked against the models that the client generates from the server's OpenAPI document; they forbid what
the document does not name. As a server in strict mode does, it wants a payload index for what it counts, sorts or
selects by, and the token in each request. What was asked is kept in `Server.requests`.
"""

import contextlib
import json
import re
import threading
import time
import warnings

import uvicorn
from qdrant_client import QdrantClient, models
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route


class Refused(Exception):
    def __init__(self, status, error):
        super().__init__(error)
        self.status = status


class Server:
    """The collections of a server, and what it was asked.

    Args:
      token: that requests must bear.
      is_old: of a version that knows no metadata of collections.
    """

    def __init__(self, *, token=None, is_old=False):
        self.token, self.is_old = token, is_old
        self.requests = []
        # Called with the method and path of each request before it is done.
        self.before = lambda method, path: None
        self._client = QdrantClient(":memory:")
        self._indexes = {}
        self._lock = threading.RLock()
        routes = [Route("/{path:path}", self._serve, methods=["GET", "POST", "PUT", "DELETE"])]
        self.app = Starlette(routes=routes)
        self.port = None

    def address(self, name="people"):
        return f"qdrant+http://127.0.0.1:{self.port}/{name}"

    def count(self, name="people"):
        return self._client.count(name).count

    def client(self):
        """What holds the collections, for what the library does not do."""
        return self._client

    async def _serve(self, request):
        path = "/" + request.path_params["path"]
        body = json.loads(await request.body() or "null")
        if self.token and request.headers.get("api-key") != self.token:
            return JSONResponse({"status": {"error": "Invalid API key or JWT"}}, 401)
        self.requests.append((request.method, path, dict(request.query_params), body))
        try:
            result = await run_in_threadpool(self._answer, request.method, path, body)
        except Refused as error:
            return JSONResponse({"status": {"error": str(error)}, "time": 0.0}, error.status)
        return JSONResponse({"result": result, "status": "ok", "time": 0.0})

    def _answer(self, method, path, body):
        self.before(method, path)
        name, what = re.fullmatch(r"/collections/([^/]+)(/.*)?", path).groups()
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if (method, what) == ("GET", "/exists"):
                return {"exists": self._client.collection_exists(name)}
            if (method, what) == ("PUT", None):
                return self._create(name, models.CreateCollection.model_validate(body))
            if not self._client.collection_exists(name):
                raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
            answer = getattr(self, _ANSWERS[method, what])(name, body)
        return answer if isinstance(answer, dict | list) else json.loads(answer.model_dump_json())

    def _create(self, name, asked):
        if self._client.collection_exists(name):
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        metadata = None if self.is_old else asked.metadata
        self._indexes[name] = {}
        self._client.create_collection(name, asked.vectors, metadata=metadata)
        return True

    def _info(self, name, body):
        info = self._client.get_collection(name)
        indexes = self._indexes.get(name, {})
        schema = {field: models.PayloadIndexInfo(data_type=kind, points=0) for field, kind in indexes.items()}
        return info.model_copy(update={"payload_schema": schema})

    def _index(self, name, body):
        asked = models.CreateFieldIndex.model_validate(body)
        self._indexes[name][asked.field_name] = asked.field_schema
        return {"operation_id": 0, "status": "completed"}

    def _upsert(self, name, body):
        asked = models.PointsList.model_validate(body)
        return self._client.upsert(name, asked.points)

    def _retrieve(self, name, body):
        asked = models.PointRequest.model_validate(body)
        found = self._client.retrieve(name, asked.ids, asked.with_payload, asked.with_vector)
        return [json.loads(one.model_dump_json()) for one in found]

    def _scroll(self, name, body):
        asked = models.ScrollRequest.model_validate(body)
        self._check_indexes(name, asked.filter, asked.order_by and asked.order_by.key)
        points, offset = self._client.scroll(
            name,
            asked.filter,
            limit=asked.limit,
            order_by=asked.order_by,
            offset=asked.offset,
            with_payload=asked.with_payload,
            with_vectors=asked.with_vector,
        )
        return models.ScrollResult(points=points, next_page_offset=offset)

    def _count(self, name, body):
        asked = models.CountRequest.model_validate(body)
        self._check_indexes(name, asked.filter)
        return self._client.count(name, asked.filter, exact=asked.exact)

    def _facet(self, name, body):
        asked = models.FacetRequest.model_validate(body)
        self._check_indexes(name, asked.filter, asked.key)
        return self._client.facet(name, asked.key, asked.filter, asked.limit, asked.exact)

    def _query(self, name, body):
        asked = models.QueryRequest.model_validate(body)
        self._check_indexes(name, asked.filter)
        return self._client.query_points(
            name,
            asked.query,
            using=asked.using,
            query_filter=asked.filter,
            limit=asked.limit,
            with_payload=asked.with_payload,
        )

    def _delete(self, name, body):
        if "filter" in body:
            selector = models.FilterSelector.model_validate(body)
            self._check_indexes(name, selector.filter)
        else:
            selector = models.PointIdsList.model_validate(body)
        return self._client.delete(name, selector)

    def _batch(self, name, body):
        asked = models.UpdateOperations.model_validate(body)
        return [json.loads(one.model_dump_json()) for one in self._client.batch_update_points(name, asked.operations)]

    def _check_indexes(self, name, condition, *keys):
        asked = {one.key for one in (condition.must if condition else ()) if isinstance(one, models.FieldCondition)}
        if missing := {*asked, *keys} - {None} - set(self._indexes[name]):
            raise Refused(400, f"Bad request: Index required but not found for {sorted(missing)}")


_ANSWERS = {
    ("GET", None): "_info",
    ("PUT", "/index"): "_index",
    ("PUT", "/points"): "_upsert",
    ("POST", "/points"): "_retrieve",
    ("POST", "/points/scroll"): "_scroll",
    ("POST", "/points/count"): "_count",
    ("POST", "/points/query"): "_query",
    ("POST", "/points/delete"): "_delete",
    ("POST", "/points/batch"): "_batch",
    ("POST", "/facet"): "_facet",
}


@contextlib.contextmanager
def running(**options):
    """A server at a free port; see `Server`."""
    server = Server(**options)
    config = uvicorn.Config(server.app, host="127.0.0.1", port=0, log_config=None, lifespan="off", ws="none")
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        while not runner.started:
            assert thread.is_alive()
            time.sleep(0.01)
        server.port = runner.servers[0].sockets[0].getsockname()[1]
        yield server
    finally:
        runner.should_exit = True
        thread.join()

"""The page's answers: what is asked for, in which form, and the text of errors."""

import asyncio
import contextlib
import io
import pathlib
import re
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.runtime import disk
from jax_mspac.search.base import Mark, Marks
from jax_mspac.search.entries import Entry, Filter, seconds, time_text
from jax_mspac.search.marks import VERDICTS, write_csv
from jax_mspac.search.serving import forms, pictures
from jax_mspac.search.serving.guard import Guard
from jax_mspac.search.serving.searcher import Answer, Query, Searcher, located

# Of one query.
MAX_BYTES, MAX_IMAGES = 32_000_000, 8
_MAX_FIELDS, _MAX_TOP, _MAX_NAME = 2000, 200, 200
# Images that are decoded at a time: each may take some 400 MB.
_DECODING = 2
_STATIC = {"page.css": "text/css", "page.js": "text/javascript"}
_FOLDER = pathlib.Path(__file__).parent
_T = TypeVar("_T")


def application(
    searcher: Searcher, *, token: str | None = None, hosts: Collection[str] = (), cookie: str = "search"
) -> Starlette:
    """The page as an ASGI application.

    Args:
      searcher: the index and its model.
      token: see `Guard`.
      hosts: see `Guard`.
      cookie: see `Guard`.
    """
    page = _Page(searcher)
    routes = [
        Route("/", page.home),
        Route("/query", page.query, methods=["POST"]),
        Route("/entry/{id}", page.entry),
        Route("/thumbnail/{id}", page.thumbnail),
        Route("/image/{id}", page.image),
        Route("/frame/{id}", page.frame),
        Route("/mark", page.mark, methods=["POST"]),
        Route("/marks.csv", page.marks),
        *(Route(f"/{name}", _static(name, kind)) for name, kind in _STATIC.items()),
    ]
    middleware = [
        Middleware(Guard, token=token, hosts=hosts, cookie=cookie),
        Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BYTES),
    ]
    handlers: Any = {UserError: page.mistake, HTTPException: page.refused}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=page.lifespan)


class _Page:
    """The handlers of the routes."""

    def __init__(self, searcher: Searcher):
        self._searcher = searcher
        self._decoders = ThreadPoolExecutor(_DECODING, "decode")
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"time": time_text, "name": lambda path: pathlib.PurePath(path).name}

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self._decoders.shutdown(cancel_futures=True)

    async def home(self, request: Request) -> Response:
        def read() -> dict[str, Any]:
            with self._searcher.opened() as store:
                counts = store.counts()
                cameras: dict[str, int] = {}
                for (_, camera), count in counts.items():
                    if camera is not None:
                        cameras[camera] = cameras.get(camera, 0) + count
                since, until = store.times()
                return {
                    "name": pathlib.PurePath(store.place).name,
                    "entries": sum(counts.values()),
                    "cameras": dict(sorted(cameras.items())),
                    "modalities": {m: sum(n for (one, _), n in counts.items() if one == m) for m in MODALITIES},
                    "since": since,
                    "until": until,
                    "thresholds": store.fact("thresholds"),
                }

        context = await self._reading(read)
        return self._html("page", max_bytes=MAX_BYTES, max_images=MAX_IMAGES, max_top=_MAX_TOP, **context)

    async def query(self, request: Request) -> Response:
        start = time.perf_counter()
        async with request.form(max_files=MAX_IMAGES, max_fields=_MAX_FIELDS) as form:
            wanted = Filter(
                cameras=tuple(forms.texts(form, "camera")),
                since=seconds(forms.text(form, "since")),
                until=seconds(forms.text(form, "until")),
                modality=forms.text(form, "of") or None,
            )
            top = forms.whole(form, "top", default=20, most=_MAX_TOP)
            query = await self._query(form)
        answer = await self._searcher.answer(query, wanted, top=top)
        verdicts = await self._with_marks(lambda marks: marks.of(query.id))
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(_as_json(answer, verdicts))
        return self._html(
            "results", answer=answer, verdicts=verdicts, groups=_groups(answer), seconds=time.perf_counter() - start
        )

    async def entry(self, request: Request) -> Response:
        name, entry = await self._located(request)
        return self._html("entry", id=name, entry=entry, framed=pictures.has_frame(entry))

    async def thumbnail(self, request: Request) -> Response:
        return await self._picture(request, lambda entry: pictures.of_entry(entry, pictures.THUMBNAIL))

    async def image(self, request: Request) -> Response:
        return await self._picture(request, lambda entry: pictures.of_entry(entry, pictures.LARGE))

    async def frame(self, request: Request) -> Response:
        return await self._picture(request, lambda entry: pictures.frame_of(entry, pictures.LARGE))

    async def mark(self, request: Request) -> Response:
        async with request.form(max_files=0, max_fields=16) as form:
            query, verdict, modality = (forms.text(form, name) for name in ("query", "verdict", "modality"))
            if not re.fullmatch("[0-9a-f]{64}", query) or modality not in MODALITIES:
                raise UserError("a mark is of no query; search again")
            if verdict not in ("", *VERDICTS):
                raise UserError(f"verdict is {verdict!r}; expected one of {', '.join(VERDICTS)}, or nothing")
            similarity = forms.number(form, "similarity")
            names, name = forms.text(form, "names")[: MAX_IMAGES * (_MAX_NAME + 2)], forms.text(form, "entry")

        def keep(marks: Marks) -> None:
            with self._searcher.opened() as store:
                _, entry = located(store, name)
            if not verdict:
                return marks.withdraw(query, entry.path)
            marks.put(
                Mark(
                    query=query,
                    names=names,
                    query_modality=modality,
                    path=entry.path,
                    similarity=similarity,
                    verdict=verdict,
                    marked=time.time(),
                )
            )

        await self._with_marks(keep)
        return JSONResponse({"verdict": verdict})

    async def marks(self, request: Request) -> Response:
        file = io.StringIO()
        write_csv(await self._with_marks(lambda marks: marks.rows()), file)
        headers = {"content-disposition": 'attachment; filename="marks.csv"'}
        return Response(file.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)

    async def mistake(self, request: Request, error: UserError) -> Response:
        return self._error(request, str(error), 400)

    async def refused(self, request: Request, error: HTTPException) -> Response:
        return self._error(request, error.detail, error.status_code)

    async def _query(self, form: FormData) -> Query:
        """The query of a form: the images that it uploads, or the entry that it names."""
        if name := forms.text(form, "entry"):
            return await self._reading(lambda: self._searcher.query_of_entry(name))
        files = [one for one in form.getlist("images") if isinstance(one, UploadFile) and one.filename]
        if not files:
            raise UserError("which image? Choose one, or several of one person")
        named = [((one.filename or "")[-_MAX_NAME:], await one.read()) for one in files]
        return await self._decode(lambda: self._searcher.query(named, forms.text(form, "modality")))

    async def _picture(self, request: Request, make: Callable[[Entry], bytes]) -> Response:
        try:
            entry = (await self._located(request))[1]
            data = await self._decode(lambda: make(entry))
        except UserError as error:
            # As a picture, since a picture is what was asked for.
            return Response(pictures.placeholder(str(error)), 404, media_type="image/svg+xml")
        # The id holds the digest of the file. Not for longer: what is removed from the index shall be gone.
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=300"})

    async def _located(self, request: Request) -> tuple[str, Entry]:
        """The id in an address, and its entry."""
        name = request.path_params["id"]

        def read() -> Entry:
            with self._searcher.opened() as store:
                return located(store, name)[1]

        return name, await self._reading(read)

    async def _with_marks(self, use: Callable[[Marks], _T]) -> _T:
        def work() -> _T:
            with self._searcher.marks() as marks:
                return use(marks)

        return await self._reading(work)

    async def _reading(self, work: Callable[[], _T]) -> _T:
        """Does in a thread what waits for the disk."""

        def explained() -> _T:
            with disk.explained({self._searcher.index: "--index"}):
                return work()

        return await run_in_threadpool(explained)

    def _decode(self, work: Callable[[], _T]) -> "asyncio.Future[_T]":
        """Does in one of few threads what may take much memory."""
        return asyncio.wrap_future(self._decoders.submit(work))

    def _html(self, template: str, status: int = 200, **context: Any) -> Response:
        return HTMLResponse(self._templates.get_template(f"{template}.html.jinja").render(context), status)

    def _error(self, request: Request, told: str, status: int) -> Response:
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"error": told}, status)
        return self._html("error", status, told=told)


def _groups(answer: Answer) -> dict[str, list[Any]]:
    """The hits that match, those below their threshold, and those of modalities without one, each by rank."""
    match = {"match": True, "below": False, "uncalibrated": None}
    return {name: [one for one in answer.found if one.hit.match is value] for name, value in match.items()}


def _as_json(answer: Answer, verdicts: dict[str, str]) -> dict[str, Any]:
    hits = [
        {
            "id": one.id,
            "rank": one.hit.rank,
            "similarity": one.hit.similarity,
            "match": one.hit.match,
            "modality": one.hit.modality,
            "camera": one.hit.camera,
            "time": one.hit.time,
            "path": one.hit.path,
            "metadata": dict(one.hit.metadata),
            "mark": verdicts.get(one.hit.path),
        }
        for one in answer.found
    ]
    query = {"id": answer.query.id, "names": answer.query.names, "modality": answer.query.modality}
    return {"query": query, "thresholds": answer.thresholds, "hits": hits}


def _static(name: str, kind: str) -> Callable[[Request], Any]:
    content = (_FOLDER / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return answer

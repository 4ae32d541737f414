"""The page's queries under load on loopback, beside `Index.query` in process.

    python benchmarks/serve_load.py --index people --modality infrared night/1.png night/2.png --json serve_load.json

Each user uploads an image to `/query` of `python -m jax_mspac.search serve`, waits for the whole answer, and does so
again. The peer is `jax_mspac.Index.query` of the same files, one after another, in a process of its own: what a query
costs without a server and without others who ask. The two run in turn, and must find the same entries, or nothing is
timed. A latency is of one query; 99 of 100 queries take at most `p99`.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from benchmarks import reporting  # noqa: E402
from benchmarks.remote import Remote  # noqa: E402

_ROOT = pathlib.Path(__file__).parents[1]
_BOUNDARY = "0123456789abcdef0123456789abcdef"
_TOP = 20


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    parser.add_argument("images", nargs="+", type=pathlib.Path, help="files to search by, each a query")
    parser.add_argument("--index", required=True)
    parser.add_argument("--modality", required=True, choices=("visible", "infrared"), help="of the images")
    parser.add_argument("--seconds", type=float, default=60, help="of load, in all turns")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--users", type=int, default=4, help="who ask at the same time")
    flags = parser.parse_args()
    latencies: tuple[list[float], list[float]] = ([], [])
    with served(flags) as port, Remote("benchmarks.serve_load:InProcess", flags.index, flags.modality) as peer:
        check(port, peer, flags.images, flags.modality)
        for _ in range(flags.turns):
            seconds = flags.seconds / flags.turns
            latencies[0].extend(load(port, flags.images, flags.modality, users=flags.users, seconds=seconds))
            latencies[1].extend(peer("latencies", flags.images, seconds))
    details = {"users": flags.users, "queries": len(latencies[0]), "against": "Index.query in process, one user"}
    rows = []
    for name, quantile in (("query, median", 0.5), ("query, p99", 0.99)):
        values = [1000 * float(np.quantile(one, quantile)) for one in latencies]
        rows.append(reporting.row(name, *values, "ms", **details))
    rates = [len(one) / flags.seconds for one in latencies]
    rows.append(reporting.row("queries", *rates, "per s", higher_is_better=True, **details))
    reporting.report(rows, flags.json)


@contextlib.contextmanager
def served(flags: argparse.Namespace) -> Iterator[int]:
    """The command in a process of its own; gives its port."""
    command = [sys.executable, "-m", "jax_mspac.search", "serve", "--index", flags.index, "--port", "0"]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = re.search(r":(\d+)/", process.stdout.readline() if process.stdout else "")
            if address is None:
                raise SystemExit("error: the page is not served; its message is above")
            yield int(address[1])
        finally:
            process.terminate()


def load(port: int, images: Sequence[pathlib.Path], modality: str, *, users: int, seconds: float) -> list[float]:
    """Seconds of each query that some users asked in some seconds, and of those under way at the end.

    Raises:
      RuntimeError: a query was not answered.
    """
    bodies = [body(image, modality) for image in images]
    end, latencies, failures = time.perf_counter() + seconds, [], []

    def use(first: int) -> None:
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                for number in itertools.count(first):
                    if time.perf_counter() >= end:
                        return
                    taken, _ = reporting.timed(lambda n=number: ask(connection, bodies[n % len(bodies)]))
                    latencies.append(taken)
        except Exception as error:  # of a thread, which would go unseen
            failures.append(error)

    threads = [threading.Thread(target=use, args=(user,)) for user in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{len(failures)} of {users} users were not answered: {failures[0]}")
    return latencies


def check(port: int, peer: Remote, images: Sequence[pathlib.Path], modality: str) -> None:
    """Raises a RuntimeError unless the page finds what the index finds."""
    # First, as the page closes a connection over which nobody asks for some seconds.
    wanted = [peer("found", image) for image in images]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for image, expected in zip(images, wanted, strict=True):
            found = [(hit["path"], hit["similarity"]) for hit in ask(connection, body(image, modality))["hits"]]
            similarities = np.array([similarity for _, similarity in found])
            if not np.allclose(similarities, [similarity for _, similarity in expected], atol=1e-5):
                raise RuntimeError(f"{image}: the page found {found[:3]}, the index {expected[:3]}")


def body(image: pathlib.Path, modality: str) -> bytes:
    """A form as a browser sends it."""
    fields = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="modality"\r\n\r\n{modality}\r\n'
    fields += f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="top"\r\n\r\n{_TOP}\r\n'
    fields += f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{image.name}"\r\n\r\n'
    return fields.encode() + image.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()


def ask(connection: http.client.HTTPConnection, form: bytes) -> dict:
    """The whole answer of the page."""
    headers = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}", "accept": "application/json"}
    connection.request("POST", "/query", form, headers)
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {data[:300]!r}")
    return json.loads(data)


class InProcess:
    """`jax_mspac.Index.query` by itself."""

    def __init__(self, folder: str, modality: str):
        import jax_mspac

        self._index, self._modality = jax_mspac.Index.open(folder, create=False), modality

    def found(self, image: pathlib.Path) -> list[tuple[str, float]]:
        """(path, similarity) of its hits."""
        return [(hit.path, hit.similarity) for hit in self._index.query(image, self._modality, top=_TOP)]

    def latencies(self, images: Sequence[pathlib.Path], seconds: float) -> list[float]:
        """Seconds of each query that was asked in some seconds."""
        end, latencies = time.perf_counter() + seconds, []
        for image in itertools.cycle(images):
            if time.perf_counter() >= end:
                return latencies
            latencies.append(reporting.timed(lambda one=image: self.found(one))[0])
        return latencies


if __name__ == "__main__":
    main()

"""Parts a, b and c of `benchmarks/accelerator.py`: what a device computes, and how fast, beside PyTorch."""

import contextlib
import dataclasses
import importlib.util
import itertools
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import correctness as numbers_lib
from benchmarks import reporting, workload
from benchmarks.accelerator_sizes import Session, Sizes
from benchmarks.programs_jax import Embed, TrainStep, device
from benchmarks.remote import Remote, in_turn
from benchmarks.workload import NUM_IDENTITIES, Workload
from jax_mspac import methods
from jax_mspac.methods.base import State

Row = dict[str, Any]
# Programs that are compiled at a time.
_WORKERS = 4
# What `torch.compile` takes for a network before anything is known of this machine.
_TORCH_COMPILES = 60.0
# A device that does less than this of what it can do in both respects is bound by neither.
_BOUND = 0.4


def write_reference(file: pathlib.Path, sizes: Sizes) -> None:
    """Writes the numbers of part a, which a CPU computes."""
    if jax.default_backend() != "cpu":
        raise SystemExit("error: the reference is a CPU's; run this with JAX_PLATFORMS=cpu")
    variant = numbers_lib.VARIANTS["float32"]
    arrays = {
        f"{group}/{name}": array
        for group, numbers in numbers_lib.numbers(sizes.correctness, variant)
        for name, array in numbers.items()
    }
    about = {"size": dataclasses.asdict(sizes.correctness), "machine": reporting.machine()}
    np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)


def correctness(session: Session) -> Iterator[Row]:
    """A row for each way to compute and each group of numbers."""
    size = session.sizes.correctness
    with np.load(session.reference) as file:
        reference = {name: file[name] for name in file.files}
    about = json.loads(str(reference.pop("about")))
    if about["size"] != json.loads(json.dumps(dataclasses.asdict(size))):
        raise ValueError(f"{session.reference} is of another size: write it again")
    for name in session.sizes.variants:
        variant = numbers_lib.VARIANTS[name]
        if session.left() <= 0:
            yield {"variant": name, "left_out": "no time"}
            continue
        for (group, found), tolerance in zip(numbers_lib.numbers(size, variant), variant.tolerances, strict=True):
            expected = {key.partition("/")[2]: a for key, a in reference.items() if key.startswith(f"{group}/")}
            worst, where = numbers_lib.difference(found, expected)
            row = {"variant": name, "group": group, "difference": worst, "of": where, "tolerance": tolerance}
            yield {**row, "passed": worst <= tolerance}


def training(session: Session) -> Iterator[Row]:
    """What the device can do, then a row for each training step."""
    ceilings = yield from _ceilings(session)
    cells = list(session.sizes.cells)
    with contextlib.ExitStack() as stack:
        torch, took = _Torch(session, stack), 0.0
        while cells and session.left() > took:
            now, cells, start = cells[:_WORKERS], cells[_WORKERS:], time.monotonic()
            # XLA compiles without Python's lock, and tries kernels out one program at a time.
            with ThreadPoolExecutor(_WORKERS) as compilers:
                ready = [compilers.submit(_compiled, session.sizes, cell) for cell in now]
            while now:
                cell, program = now.pop(0), ready.pop(0)
                named = dict(zip(("method", "dtype", "batch"), cell, strict=True))
                try:
                    yield {**named, **_step(session, cell, *program.result(), ceilings, torch)}
                except Exception as error:
                    yield {**named, "error": f"{type(error).__name__}: {error}"[:500]}
                del program
            took = time.monotonic() - start
        for cell in cells:
            yield {**dict(zip(("method", "dtype", "batch"), cell, strict=True)), "left_out": "no time"}


def embedding(session: Session) -> Iterator[Row]:
    """A row for each number format and batch."""
    with contextlib.ExitStack() as stack:
        torch = _Torch(session, stack)
        for dtype, cells in itertools.groupby(session.sizes.embedded, key=lambda cell: cell[0]):
            batches = [batch for _, batch in cells]
            program = state = None
            for batch in batches:
                if session.left() <= 0:
                    yield {"dtype": dtype, "batch": batch, "left_out": "no time"}
                    continue
                chosen = _workload(session.sizes, ("mspac", dtype, batch))
                state = state or _state(chosen)
                program = program or Embed(chosen, state)
                yield {"dtype": dtype, "batch": batch, **_embedded(session, chosen, program, torch)}


def _embedded(session: Session, chosen: Workload, program: Embed, torch: "_Torch") -> Row:
    row: Row = {}
    features, calls = program.features(chosen), session.sizes.steps
    turns = torch.beside(
        lambda: program.seconds(chosen, calls),
        *("Embed", chosen, program.weights(), ("features", chosen), features, ("seconds", chosen, calls)),
        compiled=chosen.dtype == "bfloat16",
        row=row,
    )
    for name, of_program in turns.items():
        seconds = np.concatenate([np.asarray(turn) for turn in of_program])
        row |= {
            f"{name}images_per_second": chosen.batch / float(np.median(seconds)),
            f"{name}milliseconds": 1e3 * float(np.median(seconds)),
            f"{name}milliseconds_p90": 1e3 * float(np.percentile(seconds, 90)),
        }
    return row


def _ceilings(session: Session) -> Iterator[Row]:
    """Rows, and what they say: FLOP/s of products by number format, and bytes/s of the memory."""
    found: dict[str, float] = {}
    side = session.sizes.matrix
    for dtype in ("bfloat16", "float32"):
        matrix = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
        seconds = _seconds(jax.jit(lambda x: x @ x), matrix)
        found[dtype] = 2 * side**3 / seconds
        yield {"ceiling": f"products, {dtype}", "TFLOP_per_second": found[dtype] / 1e12}
    array = jnp.ones(session.sizes.copied, jnp.float32)
    found["memory"] = 2 * array.nbytes / _seconds(jax.jit(lambda x: x + 1), array)
    yield {"ceiling": "memory, read and written", "GB_per_second": found["memory"] / 1e9}
    return found


def _seconds(function: Callable[[jax.Array], jax.Array], array: jax.Array, runs: int = 10) -> float:
    """Of one run, the median of three turns of several."""
    turns = []
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(runs):
            result = function(array)
        jax.block_until_ready(result)
        turns.append((time.perf_counter() - start) / runs)
    return statistics.median(turns[1:])


def _workload(sizes: Sizes, cell: tuple[str, str, int]) -> Workload:
    method, dtype, batch = cell
    return Workload(method=method, dtype=dtype, batch=batch, **sizes.network)


def _state(chosen: Workload) -> State:
    return numbers_lib.drawn_state(methods.build(chosen.config(), num_identities=NUM_IDENTITIES))


def _compiled(sizes: Sizes, cell: tuple[str, str, int]) -> tuple[TrainStep, float]:
    """The program of a training step, and the seconds that it took to compile, beside others."""
    chosen = _workload(sizes, cell)
    program = TrainStep(chosen, state=_state(chosen))
    return program, program.compile("step")


def _step(
    session: Session,
    cell: tuple[str, str, int],
    program: TrainStep,
    compiled_in: float,
    ceilings: dict[str, float],
    torch: "_Torch",
) -> Row:
    chosen, steps = _workload(session.sizes, cell), session.sizes.steps
    weights, losses = program.weights(), program.losses(2)
    row: Row = {"compile_seconds": compiled_in, **program.costs("step")}
    compare = ("TrainStep", chosen, weights, ("losses", 2), losses, ("seconds", "step", steps))
    turns = torch.beside(
        lambda: program.seconds("step", steps), *compare, compiled=chosen.batch in session.sizes.compiled, row=row
    )
    for name, of_program in turns.items():
        row[f"{name}images_per_second"] = chosen.batch * steps / statistics.median(of_program)
    seconds = statistics.median(turns[""]) / steps
    flops = program.flops("step")
    shares = {
        "share_of_products": flops / seconds / ceilings[chosen.dtype],
        "share_of_memory": row["bytes"] / seconds / ceilings["memory"],
    }
    largest = max(shares, key=lambda name: shares[name])
    row |= {"milliseconds": 1e3 * seconds, "TFLOP_per_second": flops / seconds / 1e12, **shares}
    row["bound_by"] = largest.removeprefix("share_of_") if shares[largest] >= _BOUND else "neither"
    speed = row["images_per_second"]
    if session.fastest is None or speed > session.fastest[0]:
        session.fastest = speed, " ".join(map(str, cell))
    return row


class _Torch:
    """PyTorch in a process of its own, where it is installed for the device that JAX uses; otherwise nothing.

    Args:
      session: of the run.
      stack: ends the process.
    """

    def __init__(self, session: Session, stack: contextlib.ExitStack):
        self._session, self._compiles, self._remote = session, _TORCH_COMPILES, None
        if not session.with_peer or importlib.util.find_spec("torch") is None:
            return
        remote = stack.enter_context(Remote("benchmarks.programs_torch:Several"))
        if remote("platform") == device()["platform"]:
            self._remote = remote
        else:
            session.say("PyTorch is not installed for this device and left out")

    def beside(
        self,
        ours: Callable[[], Any],
        kind: str,
        chosen: Workload,
        weights: dict[str, Any],
        check: tuple,
        expected: Any,
        measure: tuple,
        *,
        compiled: bool,
        row: Row,
    ) -> dict[str, list[Any]]:
        """Turns of our measurement, and of the peer's where there is one for this network.

        Args:
          ours: our measurement.
          kind: of `programs_torch.Several.make`.
          chosen: the workload.
          weights: ours.
          check: method and arguments whose result must be `expected`, up to rounding.
          expected: our result.
          measure: method and arguments of the peer's measurement.
          compiled: whether `torch.compile` takes part, if there is time.
          row: gets what went wrong with a peer.

        Returns:
          "" -> our turns; "torch_" and "torch_compile_" -> theirs.
        """
        repeats = self._session.sizes.repeats
        turns = {}
        for prefix, compile_it in (("torch_", False), ("torch_compile_", True)):
            if self._remote is None or chosen.method != "mspac" or (compile_it and not compiled):
                continue
            if compile_it and self._session.left() < 1.2 * self._compiles:
                row["torch_compile_left_out"] = "no time"
                continue
            start = time.monotonic()
            try:
                self._remote("make", kind, chosen, weights, "channels_last", compile_it)
                theirs = self._remote("call", *check)
                workload.check_same(chosen, prefix, [device(), self._remote("call", "device")], [expected, theirs])
                if compile_it:
                    self._compiles = row["torch_compile_seconds"] = time.monotonic() - start
                self._remote("call", *measure)
                ours_here, turns[prefix] = in_turn([ours, lambda: self._remote("call", *measure)], repeats)
                turns[""] = turns.get("", []) + ours_here
                if kind == "TrainStep":
                    row[f"{prefix}memory_GB"] = self._remote("call", "peak")
            # Disagreement ends a benchmark of two programs; here it is a finding.
            except (Exception, SystemExit) as error:
                row[f"{prefix}error"] = f"{type(error).__name__}: {error}"[:500]
            with contextlib.suppress(Exception, SystemExit):
                self._remote("drop")
        if "" not in turns:
            ours()
            turns[""] = [ours() for _ in range(repeats)]
        return turns

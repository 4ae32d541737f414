"""Training images from JPEG files to uint8 batches beside a PyTorch DataLoader, and how long a step waits for them.

    python benchmarks/input.py --json input.json

The photographs are drawn in the sizes of SYSU-MM01. Ours is the library's pipeline: files are checked and stored once
(`prepare`), read into memory at the start of a run (`load`), decoded and resized when they are used first, and then
kept. The peer decodes and resizes whenever an image is used, with PIL, in as many worker processes as there are cores,
from the files: the same images in the same batches, by the same filter; pixels that differ by more than PIL's rounding
stop the benchmark. `first epoch` counts from the making of the pipeline, `decoding` once it runs, ours without keeping
anything, `later epochs` after several of them, and `waiting` is the share of the time that a step of --step_seconds,
which leaves the processor idle as one on an accelerator does, then waits for its batch. Each runs in a
process of its own, in turn; medians.
"""

import functools
import itertools
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from benchmarks import reporting  # noqa: E402
from benchmarks.remote import Remote, in_turn  # noqa: E402
from benchmarks.workload import Workload  # noqa: E402

HEIGHTS, WIDTHS = (120, 600), (50, 250)  # of SYSU-MM01's images, about
MODALITIES = {"rgb": "visible", "ir": "infrared"}
_WARM_UP = 6  # batches: more than either program has ready
_KEEP_BYTES = 10**9  # more than all images take
_EPOCHS = 4  # after which nearly every image has been used
Row = dict[str, Any]


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--images", type=int, default=10, help="of each of them in each modality")
    parser.add_argument("--identities", type=int, default=8, help="of a batch, of 4 + 4 images each")
    parser.add_argument("--height", type=int, default=288)
    parser.add_argument("--width", type=int, default=144)
    parser.add_argument("--batches", type=int, default=10, help="in a measurement")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="of the DataLoader")
    parser.add_argument("--step_seconds", type=float, help="default: those of a small ResNet-18 here")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(flags, pathlib.Path(folder))
    reporting.report(rows, flags.json)


def measured(flags: Any, folder: pathlib.Path) -> list[Row]:
    """All rows, from photographs drawn in a folder."""
    draw(folder / "photographs", flags.people, flags.images)
    batch = 8 * flags.identities
    step_seconds = flags.step_seconds or _small_step(batch, flags.height, flags.width)
    size = (flags.height, flags.width)
    with Remote("benchmarks.input:Ours", str(folder), flags.identities, size) as ours:
        once = {name: ours(name) for name in ("prepare", "load")}
        paths = ours("plan", 256)
        with Remote("benchmarks.input:Torch", str(folder), paths, size, flags.workers) as torch:
            both = (ours, torch)
            first, expected = (program("first") for program in both)
            if (difference := np.abs(first.astype(int) - expected).mean()) > 0.5:
                raise RuntimeError(f"the pixels differ by {difference:.2f} on average; PIL's rounding explains 0.5")
            files = ours("images")
            steps = -(-files // batch)
            details = {"images": files, "batch": batch, "size": "x".join(map(str, size)), "workers": flags.workers}
            compared = details | {"against": "torch's DataLoader, PIL"}

            def medians(method: str, *arguments: Any) -> list[float]:
                turns = in_turn([functools.partial(program, method, *arguments) for program in both], flags.repeats)
                return [statistics.median(of_program) for of_program in turns]

            rows = [reporting.row(name, seconds, None, "seconds", **details) for name, seconds in once.items()]
            kinds = {
                "first epoch": ("epoch", steps),
                "decoding": ("seconds", flags.batches, False),
                "later epochs": ("seconds", flags.batches, True, _EPOCHS * steps),
            }
            for name, (method, count, *arguments) in kinds.items():
                speeds = [count * batch / seconds for seconds in medians(method, count, *arguments)]
                rows.append(reporting.row(name, *speeds, "images/s", higher_is_better=True, **compared))
            waits = medians("waiting", flags.batches, step_seconds)
            rows.append(reporting.row("waiting", *waits, "of the time", **compared, step_seconds=step_seconds))
    return rows


def draw(root: pathlib.Path, people: int, images: int) -> None:
    """JPEG files of the sizes of SYSU-MM01's and of about as many bytes, in `root`/{rgb,ir}/<identity>."""
    rng = np.random.default_rng(0)
    for (top, modality), identity in itertools.product(MODALITIES.items(), range(people)):
        folder = root / top / f"{identity:04d}"
        folder.mkdir(parents=True)
        for number in range(images):
            height = int(rng.integers(*HEIGHTS, endpoint=True))
            width = int(np.clip(height * rng.uniform(0.33, 0.45), *WIDTHS))
            coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
            smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
            pixels = smooth + rng.normal(0, 6, smooth.shape)
            if modality == "infrared":
                pixels[...] = pixels.mean(axis=-1, keepdims=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=90)


def _small_step(batch: int, height: int, width: int) -> float:
    """Seconds of a training step of a narrow ResNet-18."""
    workload = Workload(backbone="resnet18", batch=batch, height=height, width=width, model_width=16)
    with Remote("benchmarks.programs_jax:TrainStep", workload) as step:
        step("seconds", "step", 1)
        return step("seconds", "step", 3) / 3


class _Program:
    """A way to read batches.

    Methods return seconds, or a share of them. A pipeline goes on between the calls; what it has ready by then is taken
    first and not counted.
    """

    def __init__(self):
        self._running: dict[bool, Iterator[Any]] = {}

    def _batches(self, keep: bool) -> Iterator[Any]:
        """Batches from the start; `keep`: with what the program does about images that come again."""
        raise NotImplementedError

    def first(self) -> np.ndarray:
        """The pixels of the first batch, uint8 [N, H, W, 3]."""
        raise NotImplementedError

    def epoch(self, steps: int) -> float:
        start = time.perf_counter()
        batches = self._batches(True)  # whose end, after the clock has stopped, takes time as well
        for _ in range(steps):
            next(batches)
        return time.perf_counter() - start

    def seconds(self, count: int, keep: bool, before: int = 0) -> float:
        """Of `count` batches, after at least `before` others."""
        batches = self._warm(keep, before)
        start = time.perf_counter()
        for _ in range(count):
            next(batches)
        return time.perf_counter() - start

    def waiting(self, count: int, step_seconds: float) -> float:
        """The share of the time that is spent waiting, of steps that take so long."""
        batches, waited = self._warm(True, step_seconds=step_seconds), 0.0
        for _ in range(count):
            waited += reporting.timed(functools.partial(next, batches))[0]
            time.sleep(step_seconds)
        return waited / (waited + count * step_seconds)

    def _warm(self, keep: bool, before: int = 0, *, step_seconds: float = 0.0) -> Iterator[Any]:
        if keep not in self._running:
            self._running[keep] = self._batches(keep)
            for _ in range(before):
                next(self._running[keep])
        for _ in range(_WARM_UP):
            next(self._running[keep])
            time.sleep(step_seconds)
        return self._running[keep]


class Ours(_Program):
    """The library's pipeline.

    Args:
      folder: with "photographs" in it; the prepared set goes there, too.
      identities: of a batch.
      size: height and width of the images.
    """

    def __init__(self, folder: str, identities: int, size: tuple[int, int]):
        from jax_mspac.data import preparation  # noqa: F401  so that preparing does not count it
        from jax_mspac.runtime import command, memory

        super().__init__()
        # As the command that trains has it.
        command.quiet_libraries()
        memory.keep()
        self._folder, self._identities, self._size = folder, identities, size

    def prepare(self) -> float:
        from jax_mspac.data import preparation, registry

        fields = {"source": f"{self._folder}/photographs", "test_fraction": 0.1}
        seconds, self._builder = reporting.timed(
            lambda: preparation.prepared(registry.named("folder"), fields, f"{self._folder}/tfds")
        )
        return seconds

    def load(self) -> float:
        from jax_mspac.data import preparation
        from jax_mspac.data.sampling import IdentitySampler

        seconds, image_set = reporting.timed(lambda: preparation.load(self._builder, ("train",)))
        self._sampler = IdentitySampler(image_set, seed=0, identities=self._identities, images=(4, 4))
        return seconds

    def images(self) -> int:
        return len(self._sampler.image_set)

    def plan(self, steps: int) -> list[list[str]]:
        """The paths of the images of the first batches, below "photographs"."""
        paths = self._sampler.image_set.paths
        return [[paths[i] for part in plan for i in part.ravel()] for plan in self._sampler.batches(0, steps)]

    def first(self) -> np.ndarray:
        return np.concatenate([part["image"][0] for part in next(self._batches(True)).values()])

    def _batches(self, keep: bool) -> Iterator[Any]:
        from jax_mspac.data.batches import training_batches

        size = dict(zip(("height", "width"), self._size, strict=True))
        keep_bytes = _KEEP_BYTES if keep else 0
        return training_batches(self._sampler, **size, start=0, stop=2**31, keep_bytes=keep_bytes)


class Torch(_Program):
    """A DataLoader over files.

    Args:
      folder: with "photographs" in it.
      plan: paths of each batch; they start over at the end.
      size: height and width of the images.
      workers: processes that read.
    """

    def __init__(self, folder: str, plan: list[list[str]], size: tuple[int, int], workers: int):
        import torch

        super().__init__()
        paths = sorted(set(itertools.chain.from_iterable(plan)))
        index = {path: i for i, path in enumerate(paths)}
        self._dataset = Files([os.path.join(folder, "photographs", path) for path in paths], size)
        batches = [[index[path] for path in batch] for batch in plan]
        self._loader = functools.partial(
            torch.utils.data.DataLoader,
            self._dataset,
            batch_sampler=_Endless(batches),
            num_workers=workers,
            multiprocessing_context="fork"
            if workers
            else None,  # starts fastest, and is safe where neither JAX nor TensorFlow runs
        )

    def first(self) -> np.ndarray:
        return next(self._batches(True)).numpy()

    def _batches(self, keep: bool) -> Iterator[Any]:
        del keep  # it decodes every time
        return iter(self._loader())


class Files:
    """A torch data set of image files: uint8 [height, width, 3] each.

    Attributes:
      paths: of the files.
      size: height and width.
    """

    def __init__(self, paths: list[str], size: tuple[int, int]):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        with Image.open(self.paths[index]) as image:
            # A copy: torch takes no read-only array.
            return np.array(image.convert("RGB").resize(self.size[::-1], Image.Resampling.LANCZOS))


class _Endless:
    """The batches again and again."""

    def __init__(self, batches: list[list[int]]):
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return itertools.cycle(self._batches)


if __name__ == "__main__":
    main()

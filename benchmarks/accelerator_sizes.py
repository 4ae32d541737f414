"""How large what `benchmarks/accelerator.py` measures is, and how much time is left for it."""

import dataclasses
import math
import pathlib
import subprocess
import time
from typing import Any

from benchmarks.correctness import Size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of one run.

    Attributes:
      seconds: that all of it may take.
      correctness: of part a.
      variants: names of `correctness.VARIANTS`, those that matter most first.
      network: fields of a `workload.Workload`.
      cells: (method, dtype, batch) of the training steps, those that matter most first.
      compiled: batches of MSPAC-MeCen in bfloat16 that `torch.compile` takes part in.
      embedded: (dtype, batch) of the embeddings; batches rise within a dtype.
      steps, repeats: of a turn, and turns.
      matrix: side of the products that tell what the device can do.
      copied: numbers that are copied to tell the bandwidth of its memory.
      galleries, dims, queries, k: of the searches.
      people: flags of `jax_mspac.prepare` for the demo's images.
      demo: what is changed in the demo's config.
      demo_dtypes: that it is trained in.
      photographs: people and images of each, in two modalities, that are decoded.
    """

    seconds: float
    correctness: Size
    variants: tuple[str, ...]
    network: dict[str, Any]
    cells: tuple[tuple[str, str, int], ...]
    compiled: tuple[int, ...]
    embedded: tuple[tuple[str, int], ...]
    steps: int
    repeats: int
    matrix: int
    copied: int
    galleries: tuple[int, ...]
    dims: int
    queries: int
    k: int
    people: dict[str, int]
    demo: dict[str, Any]
    demo_dtypes: tuple[str, ...]
    photographs: tuple[int, int]


FULL = Sizes(
    # A machine that is rented for a quarter of an hour has to start, too.
    seconds=460.0,
    correctness=Size(),
    variants=("float32", "bfloat16", "float32, fast products"),
    network={"backbone": "resnet50"},
    cells=(
        *(("mspac", "bfloat16", batch) for batch in (64, 256, 128)),
        ("mspac", "float32", 64),
        ("agw", "bfloat16", 64),
        *(("mspac", "float32", batch) for batch in (256, 128)),
        *(("agw", "bfloat16", batch) for batch in (256, 128)),
        *(("agw", "float32", batch) for batch in (64, 256, 128)),
    ),
    compiled=(64, 256, 128),
    embedded=tuple((dtype, batch) for dtype in ("bfloat16", "float32") for batch in (1, 64, 256)),
    steps=20,
    repeats=3,
    matrix=8192,
    copied=2**29,
    galleries=(1_000_000, 10_000_000),
    dims=512,
    queries=256,
    k=20,
    people={"train_identities": 200, "height": 96, "width": 48},
    demo={"train.log_every": 400},
    demo_dtypes=("float32", "bfloat16"),
    photographs=(40, 5),
)
_SMALL = {"train_identities": 8, "val_identities": 3, "test_identities": 5, "images_per_camera": 2}
REHEARSAL = Sizes(
    seconds=math.inf,
    variants=("float32",),
    correctness=Size(height=64, width=32, model_width=4, parts=(2, 1), steps=3),
    network={"backbone": "resnet18", "height": 32, "width": 16, "model_width": 4, "parts": (2, 1)},
    cells=(("mspac", "float32", 4),),
    compiled=(),
    embedded=(("float32", 1),),
    steps=2,
    repeats=1,
    matrix=64,
    copied=2**12,
    galleries=(1000,),
    dims=16,
    queries=8,
    k=3,
    people={**_SMALL, "height": 32, "width": 16},
    demo={
        **{f"data.{name}": count for name, count in _SMALL.items()},
        "data.height": 32,
        "data.width": 16,
        "model.width": 4,
        "model.parts": (2, 1),
        "train.steps": 4,
        "checkpoint.every": 4,
        "eval.every": 4,
    },
    demo_dtypes=("float32",),
    photographs=(2, 2),
)


class Session:
    """What all parts share.

    Args:
      sizes: of the run.
      folder: for files while it runs.
      reference: the numbers of part a.
      with_peer: whether to run PyTorch where it is installed for this device.
    """

    def __init__(self, sizes: Sizes, folder: pathlib.Path, reference: pathlib.Path, *, with_peer: bool):
        self.sizes, self.folder, self.reference, self.with_peer = sizes, folder, reference, with_peer
        self.demo_file = folder / "demo.npz"
        self.drawing_log = folder / "prepare.log"
        # What draws it while the first parts run.
        self.drawing: subprocess.Popen | None = None
        # (images/s of a step, what it was) of the fastest training step, for part f.
        self.fastest: tuple[float, str] | None = None
        self._start = time.monotonic()
        self._end = sizes.seconds

    def begin(self, reserved: float) -> None:
        """A part begins, after which others may take so many seconds."""
        self._end = self.sizes.seconds - reserved

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def left(self) -> float:
        """Seconds that the part has left."""
        return self._end - self.elapsed()

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"[{self.elapsed():6.1f} s] {text}", flush=True)

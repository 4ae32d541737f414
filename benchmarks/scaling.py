"""What a training step computes and sends on 1 to 8 devices, read from its compiled program, and what that predicts.

    python benchmarks/scaling.py --json scaling.json
    python benchmarks/scaling.py --read scaling.json --predict

Nothing is timed: a process with as many CPU devices as asked for compiles the step and reads the program. `weak` keeps
the images of each device, `strong` those of the whole step. `ours` are the FLOPs of a device and `peer` those of a
device alone, so that a perfect `ratio` is 1 for `weak` and the number of devices for `strong`.
"""

import collections
import dataclasses
import json
import multiprocessing
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from benchmarks import hlo, prediction, reporting  # noqa: E402
from jax_mspac import config as config_lib  # noqa: E402
from jax_mspac import methods  # noqa: E402
from jax_mspac.methods.learned import Learned  # noqa: E402
from jax_mspac.modalities import MODALITIES, VISIBLE  # noqa: E402
from jax_mspac.runtime import parallel  # noqa: E402
from jax_mspac.runtime.fields import ConfigDict

REGIMES = ("weak", "strong")
FLOAT = 4  # bytes
IMAGES = 8  # of an identity in a batch, half of them visible


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step of MSPAC-MeCen.

    Attributes:
      backbone, height, width, model_width: of the network and its images.
      classes: training identities.
      identities: in the batch of a device.
      devices: that share a step.
      group: of them that share a batch; 0: all.
      pairs: whether there is a loss, the batch-hard triplet, that compares the examples of a batch.
    """

    backbone: str
    height: int
    width: int
    model_width: int
    classes: int
    identities: int
    devices: int
    group: int = 0
    pairs: bool = False

    @property
    def config(self) -> ConfigDict:
        config = config_lib.full_size_config("sysu_mm01")
        config.data.height, config.data.width = self.height, self.width
        config.model.backbone, config.model.width = self.backbone, self.model_width
        # As accelerators have it; the forms for a CPU multiply less and move more.
        config.model.kernels = "native"
        config.batch.group_devices = self.group
        config.loss.batch_hard.weight = float(self.pairs)
        return config


def main() -> None:
    parser = reporting.parser(__doc__.partition("\n")[0])
    parser.add_argument("--backbone", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--height", type=int, default=288)
    parser.add_argument("--width", type=int, default=144)
    parser.add_argument("--model-width", type=int, default=64, help="channels of the first stage")
    parser.add_argument("--classes", type=int, default=395, help="training identities")
    parser.add_argument("--identities", type=int, default=8, help="of a device alone, 4 + 4 images each")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--group", type=int, default=0, help="devices that share a batch; 0: all; weak scaling alone")
    parser.add_argument("--pairs", action="store_true", help="with a loss that compares all examples of a batch")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=REGIMES)
    parser.add_argument("--predict", action="store_true", help="print predictions as Markdown instead of the rows")
    parser.add_argument(
        "--read", type=pathlib.Path, nargs="+", metavar="FILE", help="rows of earlier runs; compile nothing"
    )
    flags = parser.parse_args()
    if flags.read:
        rows = [row for file in flags.read for row in json.loads(file.read_text())["rows"]]
    else:
        rows = []
        for backbone in flags.backbone:
            size = (backbone, flags.height, flags.width, flags.model_width, flags.classes)
            alone = Step(*size, flags.identities, devices=1, pairs=flags.pairs)
            rows += _rows(alone, flags.devices, ["weak"] if flags.group else flags.regimes, flags.group)
    if flags.predict:
        print(prediction.markdown(rows))
    if flags.json or not flags.predict:
        reporting.report(rows, flags.json)


def _rows(alone: Step, devices: Sequence[int], regimes: Sequence[str], group: int = 0) -> list[dict[str, Any]]:
    """A row for each regime and number of devices; without those that cannot share the batch.

    So many devices of a group share a batch, where there are more of them; 0: all.
    """
    steps = {}
    for regime in regimes:
        for count in sorted({1, *devices}):
            own = alone.identities if regime == "weak" else alone.identities // count
            if regime == "weak" or alone.identities % count == 0:
                shared = group if count > group else 0
                steps[regime, count] = dataclasses.replace(alone, identities=own, devices=count, group=shared)
    found = {}
    for step in dict.fromkeys(steps.values()):
        # How many devices the CPU is divided into is fixed for the life of a process.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[step] = pool.apply(_compiled_on_cpu, (step,))
    rows = []
    for (regime, count), step in steps.items():
        flops, others = found[step]
        rows.append(
            reporting.row(
                f"{step.backbone} {regime}",
                flops,
                found[alone][0],
                "FLOPs of a device",
                backbone=step.backbone,
                regime=regime,
                devices=count,
                group=step.group,
                pairs=step.pairs,
                images=step.identities * IMAGES,
                **others,
            )
        )
    return rows


def _compiled_on_cpu(step: Step) -> tuple[int, dict[str, int]]:
    # Machine code is not looked at; that of the least effort takes the least time.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", step.devices)
    return figures(step)


def figures(step: Step) -> tuple[int, dict[str, int]]:
    """What a device computes, keeps and sends in a step, and what it should send.

    Returns:
      FLOPs as the compiler counts them, and a dictionary. bytes_accessed, memory: likewise, in bytes. collectives: how
      many. all_reduce, all_gather, reduce_scatter: bytes of whole arrays, each with its count by hand, "..._by_hand".
      gradients: those of all_reduce that are gradients. collectives_of_group: how many join a group of devices and not
      all. averaged: bytes of all_reduce that all devices sum for the sake of groups. parameters: trained. feature_dim
      and embed_flops: of an image at test.
    """
    method = methods.build(step.config, num_identities=step.classes)
    state = jax.eval_shape(method.init, jax.random.key(0))
    compiled = lowered(step, method).compile()
    sent: collections.Counter[str] = collections.Counter()
    listed = hlo.collectives(compiled.as_text(), devices=step.devices)
    for collective in listed:
        sent[collective.kind] += collective.bytes
    of_group = [collective for collective in listed if collective.devices == step.group]
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    image = jax.ShapeDtypeStruct((1, step.height, step.width, 3), jnp.uint8)
    embed = jax.jit(lambda variables, images: method.embed(variables, images, VISIBLE)["after_neck"])
    feature_dim = jax.eval_shape(embed, state.variables, image).shape[1]

    trained = {
        "embedder": state.variables["embedder"]["params"],
        "heads": state.training["networks"]["heads"]["params"],
    }
    # The biases of the two ends of a shortcut have the same gradient, which the compiler sums once.
    sizes = {jax.tree_util.keystr(path): leaf.size for path, leaf in jax.tree.leaves_with_path(trained)}
    gradients = FLOAT * sum(size for path, size in sizes.items() if not path.endswith("['downsample_1']['bias']"))
    # Mean and mean square of each channel forwards, their gradients backwards.
    statistics = 2 * FLOAT * sum(leaf.size for leaf in jax.tree.leaves(state.variables["embedder"]["batch_stats"]))
    # The groups' running statistics, where there are groups.
    averaged = statistics // 2 if step.group else 0
    examples = step.identities * IMAGES * (step.group or step.devices) if step.pairs else 0
    metrics = FLOAT * (2 + len(method.losses))  # the total, the identity loss and the others
    return int(cost["flops"]), {
        "bytes_accessed": int(cost["bytes accessed"]),
        "memory": memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        "collectives": len(listed),
        "collectives_of_group": len(of_group),
        "all_reduce": sent["all-reduce"],
        "all_reduce_by_hand": gradients + statistics + averaged + metrics,
        "all_gather": sent["all-gather"],
        # The identity loss and MeCen look at one example at a time; others at features and labels.
        "all_gather_by_hand": FLOAT * examples * (feature_dim + 1),
        "reduce_scatter": sent["reduce-scatter"],
        "reduce_scatter_by_hand": FLOAT * examples * feature_dim,
        "gradients": gradients,
        "averaged": averaged,
        "parameters": sum(sizes.values()),
        "feature_dim": feature_dim,
        "embed_flops": int(embed.lower(state.variables, image).cost_analysis()["flops"]),
    }


def lowered(step: Step, method: Learned) -> jax.stages.Lowered:
    """The update of `method` on the first devices, before it is compiled. No array is made."""
    state = jax.eval_shape(method.init, jax.random.key(0))
    lead = (step.devices, step.identities * IMAGES // 2)
    of_modality = {name: jax.ShapeDtypeStruct(lead, jnp.int32) for name in ("label", "camera", "index", "slot")}
    of_modality["image"] = jax.ShapeDtypeStruct((*lead, step.height, step.width, 3), jnp.uint8)
    update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], jax.devices()[: step.devices])
    return update.lower(state, dict.fromkeys(MODALITIES, of_modality))


if __name__ == "__main__":
    main()

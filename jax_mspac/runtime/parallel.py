"""Data parallelism: the only file that knows about devices and `jax.pmap`.

The convention of a step: the state goes in and comes out replicated, a batch carries a leading axis of local devices,
gradients and metrics are averaged over `AXIS`, and losses that compare examples use `gather`. Averaging after a gather
gives the gradient of the whole batch, because the transpose of the gather adds up what every device's loss contributes.
"""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_mspac.errors import UserError

AXIS = "data"

PyTree = Any

# A context in which data goes from the host to the devices, or back, only where the program says so.
explicit_transfers = functools.partial(jax.transfer_guard, "disallow")

_largest = jax.pmap(lambda x: jax.lax.pmax(x, AXIS), axis_name=AXIS, out_axes=None)


def data_parallel(update: Callable, devices: Sequence[jax.Device] | None = None) -> Callable:
    """Runs `update(state, batch) -> (state, metrics)` on every device, of all processes by default, with its share.

    The update is pure; both results must be equal on all devices (averaged over `AXIS`): this is not checked at run
    time. Returned is a compiled function of the same form. Leaves of `batch` have a leading axis of local devices;
    `state` is donated.
    """
    return jax.pmap(
        update, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), devices=devices, donate_argnums=(0,)
    )


def neighbors(axis_name: str, group: int) -> list[list[int]] | None:
    """`groups` of the devices of a mapped axis, inside of what is mapped over it."""
    return groups(jax.lax.psum(1, axis_name), group)


def groups(count: int, group: int) -> list[list[int]] | None:
    """The numbers of `count` devices, in groups of `group` that follow each other; None where one group has them all.

    Raises:
      UserError: the devices cannot be divided into such groups; 0 stands for all of them.
    """
    if group in (0, count):
        return None
    if count % group:
        raise UserError(
            f"config.batch.group_devices is {group}, and {count} devices cannot be divided into groups of so many; "
            f"expected a divisor of {count}, or 0 for all devices"
        )
    return np.arange(count).reshape(-1, group).tolist()


def gather(x: jax.Array, group: int = 0) -> jax.Array:
    """[n, ...] per device -> [devices * n, ...] on every device, in device order. Gradients flow through.

    The devices are all, or the own group of `neighbors`.
    """
    return jax.lax.all_gather(x, AXIS, axis_index_groups=neighbors(AXIS, group), tiled=True)


def average(tree: PyTree) -> PyTree:
    """The mean of every leaf over the devices."""
    return jax.lax.pmean(tree, AXIS)


def any_process(flag: bool) -> Callable[[], bool]:
    """Asks all processes, which have to ask alike; the answer is whether any of them said yes.

    Asking does not wait for the devices; calling the result does.
    """
    answer = _largest(shard(np.full(jax.local_device_count(), flag, np.int32)))
    return lambda: bool(jax.device_get(answer))


def shard(batch: PyTree, devices: Sequence[jax.Device] | None = None) -> PyTree:
    """Puts host arrays [local devices, ...] on the devices that `data_parallel` will read them from."""
    return _placed(batch, _sharding(devices, PartitionSpec(AXIS)))


def sharded_ahead(
    batches: Iterable[PyTree], choose: Callable[[PyTree], PyTree], ahead: int = 1
) -> Iterator[tuple[PyTree, PyTree]]:
    """Each batch, and what is chosen of it on the devices: `shard`, asked for so many batches early.

    So a batch is copied while the step before it runs, and no step waits for its own. The devices hold that many more.
    """
    waiting: collections.deque[tuple[PyTree, PyTree]] = collections.deque()
    for batch in batches:
        waiting.append((batch, shard(choose(batch))))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def sharded_inference(embed: Callable, devices: Sequence[jax.Device] | None = None) -> Callable:
    """Runs `embed(variables, images) -> tree of [N, ...]` with the images split over this process's devices.

    Returns:
      A function of host arrays. Fewer images than the largest call so far are padded, so that it compiles once.
    """
    count = len(devices or jax.local_devices())
    replicated, split = _sharding(devices, PartitionSpec()), _sharding(devices, PartitionSpec(AXIS))
    compiled = jax.jit(embed, in_shardings=(replicated, split), out_shardings=split)
    capacity = 0

    def run(variables: PyTree, images: np.ndarray) -> PyTree:
        nonlocal capacity
        capacity = max(capacity, -(-len(images) // count) * count)
        padding = [(0, capacity - len(images))] + [(0, 0)] * (images.ndim - 1)
        # Put there explicitly: of several processes each has images of its own.
        features = compiled(variables, _placed(np.pad(images, padding), split))
        return jax.tree.map(lambda x: x[: len(images)], jax.device_get(features))

    return run


def replicate(tree: PyTree, devices: Sequence[jax.Device] | None = None) -> PyTree:
    """Puts host arrays on all of this process's devices."""
    return _placed(tree, _sharding(devices, PartitionSpec()))


def _placed(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """On its devices; on CPUs not before the copy is done.

    A program whose arguments are still being copied runs in another thread than the one that asks for it, and the
    memory of that thread is not kept (see `memory`): such a step would have to find all of its pages again.
    """
    placed = jax.device_put(tree, sharding)
    devices: Iterable[Any] = sharding.device_set  # JAX types it as a set of something that is no type
    on_cpu = all(device.platform == "cpu" for device in devices)
    return jax.block_until_ready(placed) if on_cpu else placed


def _sharding(devices: Sequence[jax.Device] | None, spec: PartitionSpec) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices or jax.local_devices()), (AXIS,)), spec)

"""A model as ONNX: a file for each modality, plain feed-forward graphs, compared with the model in ONNX Runtime.

jax2onnx converts. Its package asks for a version of orbax-checkpoint that is older than ours, for parts of it that this
does not use, and so it cannot be a requirement: it is installed beside them, without its own.
"""

import contextlib
import json
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import export

from jax_mspac.errors import UserError
from jax_mspac.export.source import Function, Source
from jax_mspac.modalities import MODALITIES

DESCRIPTION = "model.onnx.json"
# That many runtimes have.
OPSET = 18
# Largest difference between entries of features of length 1.
TOLERANCE = 1e-4
# Images that a graph is compared with the model on.
_COMPARED = 3


def file_of(modality: str) -> str:
    """The name of the file of a modality."""
    return f"{modality}.onnx"


def write(source: Source, folder: pathlib.Path) -> None:
    """Writes a graph for each modality, and the JSON file that describes both, into a folder.

    The size of the batch is open. Float32 is computed, also where the model computes in bfloat16, which few runtimes
    have.

    Raises:
      UserError: the method has no network, or one that ONNX cannot hold, or a graph does not compute what it does.
      ModuleNotFoundError: a library is missing.
    """
    import onnx

    with _quiet():
        import jax2onnx  # noqa: F401, so that what is missing is told before anything is computed

    # ONNX Runtime has no maximum over windows of four axes, to which XLA's is converted.
    function = source.function(kernels="plain", dtype="float32")
    description = {**source.description("onnx"), "graphs": {}}
    for modality in MODALITIES:
        graph = _converted(source, function, modality)
        serialized = graph.SerializeToString()
        description["graphs"][modality] = {
            "file": file_of(modality),
            "opset": {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import},
            "largest_difference": _difference(source, function, serialized, modality),
        }
        onnx.helper.set_model_props(graph, {"jax_mspac": json.dumps(description), "modality": modality})
        onnx.checker.check_model(graph, full_check=True)
        (folder / file_of(modality)).write_bytes(graph.SerializeToString())
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _converted(source: Source, function: Function, modality: str) -> Any:
    """The graph of one modality, a `ModelProto`."""
    with _quiet():
        from jax2onnx import to_onnx

        (batch,) = export.symbolic_shape("batch")
        images = jax.ShapeDtypeStruct((batch, *source.experiment.image_size, 3), np.uint8)
        method = source.experiment.config.method
        try:
            graph = to_onnx(
                lambda images: function(images, modality),
                [images],
                model_name=f"jax_mspac_{method}_{modality}",
                input_names=["images"],
                output_names=["features"],
                opset=OPSET,
            )
        except NotImplementedError as error:
            raise UserError(
                f"{method} computes what jax2onnx cannot convert ({error}); --to stablehlo has all that JAX has"
            ) from error
    _share_equal_weights(graph.graph)
    return graph


def _share_equal_weights(graph: Any) -> None:
    """Keeps one of equal arrays, in place: an image and its flip pass the same weights, which came once for each."""
    kept: dict[bytes, Any] = {}
    names: dict[str, str] = {}
    for array in graph.initializer:
        nameless = type(array)()
        nameless.CopyFrom(array)
        nameless.ClearField("name")
        names[array.name] = kept.setdefault(nameless.SerializeToString(), array).name
    arrays = list(kept.values())
    del graph.initializer[:]
    graph.initializer.extend(arrays)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _difference(source: Source, function: Function, serialized: bytes, modality: str) -> float:
    """The largest one between features of the graph and of the model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    images = source.images(_COMPARED)
    (features,) = session.run(["features"], {"images": images})
    expected = jax.jit(lambda images: function(images, modality))(images)
    difference = float(np.abs(features - np.asarray(expected)).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"the ONNX graph of {modality} images gives features that differ from the model's by {difference:.1e}, "
            f"more than {TOLERANCE:.0e}: it is not written. Try another version of jax2onnx or onnxruntime"
        )
    return difference


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of jax2onnx about libraries that nothing here uses, and of how it calls another one."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""DEEN (Zhang and Wang, CVPR 2023): attention between stages, three embeddings of an image and losses between them.

The network is the one of the public code (github.com/ZYK100/LLCM) for SYSU-MM01 and LLCM, the settings those for
SYSU-MM01. The embeddings are matched by the mean of their cosines.
"""

from jax_mspac.methods import agw, learned
from jax_mspac.methods.base import System
from jax_mspac.models import layouts
from jax_mspac.models.layouts import LINEAR, OIHW, Row


def _attention_rows(ours: str, theirs: str) -> tuple[Row, ...]:
    path, name = rf".*/multi_scale(\d)/{ours}", rf"MFA\1.{theirs}"
    return (
        *layouts.norm(f"{path}/bn", f"{name}.W.1", minus=f"{name}.W.0.bias"),
        Row(f"{path}/W/kernel", f"{name}.W.0.weight", OIHW),
        Row(rf"{path}/(theta|phi|g)/kernel", rf"{name}.\2.weight", OIHW),
        Row(rf"{path}/(theta|phi|g)/bias", rf"{name}.\2.bias"),
    )


LAYOUT = layouts.Layout(
    streams=agw.STREAMS,
    rows=(
        *_attention_rows("channels", "CNL"),
        *_attention_rows("pixels", "PNL"),
        Row(r".*/diverse/branch(\d)_dilation(\d)/kernel", r"DEE.FC\1\2.weight", OIHW),
        Row(r".*/diverse/branch(\d)_out/kernel", r"DEE.FC\1.weight", OIHW),
        Row(r".*/diverse/branch(\d)_out/bias", r"DEE.FC\1.bias"),
        *layouts.norm("embedder/neck", "bottleneck"),
        Row("heads/classifier", "classifier.weight", LINEAR),
    ),
    first=("classifier.weight", "bottleneck.weight", "DEE.FC11.weight"),
    settings=layouts.resnet_settings,
    unused=agw.LAYOUT.unused,
    zeros=agw.LAYOUT.zeros,
    more=agw.LAYOUT.more,
)
SYSTEM = System(
    title="DEEN",
    build=learned.build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 1,
        "model.multi_scale": True,
        "model.diverse_embeddings": True,
        "model.unit_parts": True,
        "loss.batch_hard.weight": 1.0,
        "loss.batch_hard.parts": "examples",
        "loss.pair_mining.weight": 0.8,
        "loss.alignment.weight": 0.01,
        "augment.random_gray": 0.5,
        "augment.erasing": 0.5,
        "augment.erasing_area": (0.2, 0.8),
        "eval.flip": True,
    },
    layout=LAYOUT,
    images=(4, 4),
    recipe={
        **learned.AGW_RECIPE,
        "augment.random_gray": 0.5,
        "augment.erasing": 0.5,
        # Epochs 10, 20 and 80 of 151.
        "optimizer.warmup": 0.066,
        "optimizer.milestones": (0.132, 0.53),
        "batch.identities": 6,
    },
)

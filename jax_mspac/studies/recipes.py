"""The recipe of configs/sysu.py, what configs/sysu_strong.py adds to it, one at a time, and all of that together."""

from typing import Any

from jax_mspac.studies.base import Row, Table

# What is added -> its fields, with the values in the plain recipe and in the strong one.
_INGREDIENTS: dict[str, dict[str, tuple[Any, Any]]] = {
    "channel exchange": {"augment.channel_exchange": (0.0, 0.5)},
    "random erasing": {"augment.erasing": (0.0, 0.5)},
    "identity of stripes": {"loss.identity": ("global", "part")},
    "AdamW": {
        "optimizer.name": ("sgd", "adamw"),
        "optimizer.learning_rate": (0.1, 5e-4),
        "optimizer.backbone_factor": (0.1, 1.0),
        "optimizer.weight_decay": (5e-4, 0.01),
        "optimizer.schedule": ("step", "cosine"),
    },
    "horizontal flips": {"eval.flip": (False, True)},
}
_PLAIN = {field: plain for fields in _INGREDIENTS.values() for field, (plain, _) in fields.items()}
_STRONG = {name: {field: strong for field, (_, strong) in fields.items()} for name, fields in _INGREDIENTS.items()}

TABLE = Table(
    name="recipes",
    title="What does the strong recipe gain at the same budget?",
    scores=("rank1", "rank10", "mAP", "mINP"),
    rows=(
        Row("plain", _PLAIN),
        *(Row(f"+{name}", _PLAIN | settings) for name, settings in _STRONG.items()),
        Row("strong", {field: value for settings in _STRONG.values() for field, value in settings.items()}),
    ),
)

"""What identities, galleries, cameras and losses that compare all examples cost, counted by hand."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac.data.registry import named

Row = Mapping[str, Any]

CHIP_COUNTS = (8, 64, 256, 1024)
CLASSES = (395, 1_000, 10_000, 100_000, 1_000_000)
GALLERIES = (10_000, 100_000, 1_000_000, 10_000_000)
QUERIES = 1_000
CAMERAS = (2, 6, 9, 20)
FLOAT = 4  # bytes


def pair_costs(row: Row, chips: int) -> dict[str, int]:
    """What a loss costs a chip that compares its own examples with those of all chips, such as a triplet loss.

    Returns:
      examples: of the step; bytes: gathered, and again scattered; flops: of the products, forwards and twice as many
      backwards; flops_of_all_pairs: if each chip compared all examples with all.
    """
    examples = chips * row["images"]
    each = 6 * examples * row["feature_dim"]
    return {
        "examples": examples,
        "bytes": FLOAT * examples * (row["feature_dim"] + 1),
        "flops": row["images"] * each,
        "flops_of_all_pairs": examples * each,
    }


def pairs_table(row: Row) -> str:
    """Markdown of `pair_costs`, beside the rest of the step."""
    lines = []
    for chips in (1, *CHIP_COUNTS):
        costs = pair_costs(row, chips)
        lines.append(
            [f"{chips:,}", f"{costs['examples']:,}", f"{costs['bytes'] / 1e6:,.1f}", f"{costs['flops'] / 1e9:,.2f}"]
            + [f"{100 * costs['flops'] / (row['ours'] + costs['flops']):.1f} %"]
            + [f"{costs['flops_of_all_pairs'] / 1e9:,.0f}"]
        )
    head = "chips, examples, MB gathered, GFLOPs of a chip, of the step's FLOPs, if each chip compared all with all"
    return table(head.split(", "), lines)


def identity_costs(row: Row, classes: int) -> dict[str, int]:
    """What so many training identities cost: a classifier and centers, of a feature each.

    Returns:
      parameters; bytes: all-reduced in a step; memory: of parameters, momentum and gradients; flops: of the classifier
      on a device, forwards and twice as many backwards. Of the centers, a batch looks only at its own.
    """
    parameters = 2 * classes * row["feature_dim"]
    flops = 6 * row["images"] * classes * row["feature_dim"]
    return {"parameters": parameters, "bytes": FLOAT * parameters, "memory": 3 * FLOAT * parameters, "flops": flops}


def identities_table(row: Row) -> str:
    """Markdown of `identity_costs`, beside the rest of the step."""
    own = identity_costs(row, CLASSES[0])
    lines = []
    for classes in CLASSES:
        costs = identity_costs(row, classes)
        total = row["ours"] - own["flops"] + costs["flops"]
        lines.append(
            [f"{classes:,}", f"{costs['parameters'] / 1e6:.1f}", f"{costs['bytes'] / 1e6:,.1f}"]
            + [f"{costs['memory'] / 1e9:.2f}", f"{costs['flops'] / 1e9:,.1f}", f"{100 * costs['flops'] / total:.1f} %"]
        )
    head = "identities, million parameters, MB summed, GB memory, GFLOPs, of the step's FLOPs"
    return table(head.split(", "), lines)


def gallery_table(row: Row) -> str:
    """Markdown of what a search of growing galleries costs: embedding, comparing, scoring and memory."""
    dim, lines = row["feature_dim"], []
    for gallery in GALLERIES:
        embedding, comparing = gallery * row["embed_flops"], 2 * QUERIES * gallery * dim
        lines.append(
            [f"{gallery:,}", f"{embedding / 1e15:,.3f}", f"{comparing / 1e15:,.6f}", f"{QUERIES * gallery / 1e9:g}"]
            + [f"{FLOAT * gallery * dim / 1e9:,.2f}"]
        )
    head = "gallery images, PFLOPs to embed, PFLOPs to compare, billion pairs scored, GB of features"
    return table(head.split(", "), lines)


def cameras_table(identities: int = 50, images: int = 5) -> str:
    """Markdown of what protocols ask for as cameras are added, each with so many images of a person and modality."""
    lines = []
    for name, counts in (("folder", CAMERAS), ("llcm", CAMERAS), ("sysu_mm01", (6,))):
        for count in counts:
            costs = camera_costs(name, count, identities=identities, images=images)
            lines.append([name, count, *(f"{cost:,}" for cost in costs.values())])
    head = "protocol, cameras, rows of the table, trials, queries, gallery of a trial, pairs ranked, pairs excluded"
    return table(head.split(", "), lines)


def camera_costs(name: str, cameras: int, *, identities: int, images: int) -> dict[str, int]:
    """What a protocol asks for where each camera has `images` of each identity in each of its modalities.

    Returns:
      rows; and over all rows trials, queries, gallery (of a trial), and ranked and excluded pairs. A query is ranked
      once, against all images that are in the gallery of some trial.
    """
    of_camera = {3: (1,), 6: (1,)} if name == "sysu_mm01" else {}
    everywhere = (0,) if name == "sysu_mm01" else (0, 1)
    places = [(i, c, m) for c in range(1, cameras + 1) for m in of_camera.get(c, everywhere) for i in range(identities)]
    ids, taken_by, modalities = np.repeat(np.array(places), images, axis=0).T
    data_set = named(name)
    settings = data_set.eval_fields
    listed = data_set.search(ids, taken_by, modalities, identity_names=range(identities), settings=settings)
    costs = dict.fromkeys(("rows", "trials", "queries", "gallery", "ranked", "excluded"), 0)
    for protocol in listed:
        queries = protocol.trials[0].queries
        union = np.unique(np.concatenate([trial.gallery for trial in protocol.trials]))
        costs["rows"] += 1
        costs["trials"] += len(protocol.trials)
        costs["queries"] += queries.size
        costs["gallery"] += protocol.trials[0].gallery.size
        costs["ranked"] += queries.size * union.size
        if protocol.excluded:
            pairs = protocol.excluded(ids[queries], taken_by[queries], ids[union], taken_by[union])
            costs["excluded"] += int(pairs.sum())
    return costs


def table(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *lines))

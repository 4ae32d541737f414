"""The sections of a report: what each one shows of a run, and says about it."""

import numpy as np

from jax_mspac.data import published, registry
from jax_mspac.data.data_set import DataSet
from jax_mspac.data.image_set import ImageSet
from jax_mspac.metrics.distances import cosine_distances
from jax_mspac.modalities import MODALITIES
from jax_mspac.reporting import (
    cameras,
    curves,
    embedding_map,
    games,
    heatmaps,
    histograms,
    rankings,
    scores,
    style,
    translations,
)
from jax_mspac.reporting.page import Block, Cell, Details, Picture, Ranking, Section, Table, Text
from jax_mspac.reporting.records import VERSIONS_FILE
from jax_mspac.reporting.runs import Run, differences, flat
from jax_mspac.runs.logging import METRICS_FILE
from jax_mspac.runs.results import JSON_FILE, percent

# Queries shown of each kind, and identities of the heat maps.
QUERIES, PERSONS = 3, 5
# Queries ranked at a time.
_BLOCK = 256


def results(run: Run, other: Run | None) -> Section:
    """The tables of every protocol."""
    blocks: list[Block] = []
    for which, of in (("", run), ("Second run: ", other)):
        if of is not None and JSON_FILE in of.records.problems:
            blocks.append(Text(which + of.records.problems[JSON_FILE], "missing"))
        elif of is not None and (found := of.records.results) and (step := found.get("step")) != of.step:
            told = f"the tables are of step {step}, as {JSON_FILE} says; the pictures are of step {of.step}."
            blocks.append(Text(which + told, "missing"))
    if run.records.results is None:
        return Section("results", "Results", tuple(blocks))
    blocks.append(Text("In percent. mAP is the mean average precision, mINP tells how early the last match comes."))
    data_set = registry.named(run.config.data.name)
    blocks += _about_slides(data_set, run.test.image_set)
    second = other.records.results if other is not None else None
    tables = scores.tables(run.records.results, second, data_set=data_set)
    blocks += tables
    if any("+" in cell.text for table in tables for row in table.rows for cell in row[:1] if cell.text[:4] == "this"):
        blocks.append(Text("Features with a + are re-ranked at test time: compare them with re-ranked results only."))
    return Section("results", "Results", tuple(blocks))


def _about_slides(data_set: DataSet, image_set: ImageSet) -> list[Text]:
    """Whether the slides' numbers belong beside a run's."""
    if data_set.published is None:
        told = "The method's slides have results on SYSU-MM01 and RegDB only: none is shown for this data set."
        return [Text(told)]
    told = f"Rows called slides are copied from the {published.SOURCE}, for {data_set.title}. {data_set.published_note}"
    blocks = [Text(told)]
    complete = data_set.expected_counts["test"]
    expected = sum(complete[f"{modality} images"] for modality in MODALITIES), complete["identities"]
    if (len(image_set), image_set.num_identities) != expected:
        told = (
            f"The test split here holds {len(image_set):,} images of {image_set.num_identities:,} identities, the "
            f"complete one {expected[0]:,} of {expected[1]:,}: the slides' rows cannot be compared with this run's."
        )
        blocks.append(Text(told, "missing"))
    return blocks


def training(run: Run, other: Run | None) -> Section:
    """Everything that was logged while training."""
    blocks: list[Block] = []
    for which, of in (("", run), ("Second run: ", other)):
        if of is not None and METRICS_FILE in of.records.problems:
            blocks.append(Text(which + of.records.problems[METRICS_FILE], "missing"))
    if run.records.curves:
        drawing = curves.figure(run.records.curves, other.records.curves if other is not None else None)
        names = ", ".join(name.rstrip("/") for name in curves.panels(run.records.curves))
        blocks.append(Picture("curves", style.png(drawing), f"Curves over the training steps: {names}."))
        for name, of in (("games", run), ("games-second-run", other)):
            if of is not None and of.games:
                titles = ", ".join(game.title for game in of.games)
                alt = f"Losses of both sides and the discriminators' accuracy: {titles}."
                whose = "this" if of is run else "the second"
                told = f"The games of {whose} run. Dotted: a discriminator that knows nothing."
                blocks.append(Picture(name, style.png(games.figure(of.games, of.records.curves)), alt, told))
    return Section("training", "Training curves", tuple(blocks))


def galleries(run: Run) -> Section:
    """What the best, the typical and the worst queries found."""
    image_set, protocol = run.test.image_set, run.test.primary
    queries = protocol.trials[0].queries
    # Only the scores of all queries are kept: whole rankings of a large test set would fill the memory.
    blocks_of_queries = np.split(queries, range(_BLOCK, queries.size, _BLOCK))
    precision = np.concatenate([_search(run, block).average_precision for block in blocks_of_queries])
    chosen = rankings.choose(precision, image_set.identities[queries], count=QUERIES)
    text = (
        "Each query (left of the line) and the first ten gallery images that count, nearest first, in the first trial "
        "of the primary metric's protocol, with their cosine distances. Green frame and tick: the query's identity. "
        "Red frame and cross: another one."
    )
    blocks: list[Block] = [Text(text)]
    if protocol.excluded is not None:
        text = "Pale gray, dashed frame: excluded by the protocol, shown where it would have ranked; it has no rank."
        blocks.append(Text(text))
    titles = {
        "best": "Best: the highest average precision",
        "typical": "Typical: average precision nearest to the median",
        "worst": "Worst: the lowest average precision",
    }
    for name, of_kind in chosen.items():
        if not of_kind:
            continue
        blocks.append(Text(titles[name], "heading"))
        found = _search(run, queries[of_kind])
        blocks += [_ranking(run, found, i, f"{name}-{i + 1}") for i in range(len(of_kind))]
    return Section("galleries", "Ranked galleries", tuple(blocks))


def _search(run: Run, queries: np.ndarray) -> rankings.Search:
    """Some queries of the first trial of the primary metric's protocol."""
    protocol, ids, cameras_of = run.test.primary, run.test.image_set.identities, run.test.image_set.cameras
    gallery = protocol.trials[0].gallery
    excluded = protocol.excluded_pairs(ids, cameras_of, queries, gallery)
    distances = cosine_distances(run.features)(queries, gallery)
    return rankings.search(distances, queries, gallery, ids[queries][:, None] == ids[gallery][None], excluded)


def _ranking(run: Run, found: rankings.Search, query: int, name: str) -> Ranking:
    image_set = run.test.image_set
    shown = rankings.places(found, query)
    position = int(found.queries[query])
    # As they are stored, before the model's resizing.
    images = [image_set.picture(place.position) for place in shown]
    sheet = rankings.strip(image_set.picture(position), images, shown)
    identity, camera = image_set.identity_names[image_set.identities[position]], image_set.cameras[position]
    precision = found.average_precision[query]
    matches = [place.rank for place in shown if place.rank is not None and place.match]
    alt = f"Query of identity {identity}; matches at ranks {', '.join(map(str, matches)) or 'beyond those shown'}."
    cells = [("query", *_lines(run, position))]
    for place in shown:
        rank = "excluded" if place.rank is None else f"{place.rank} {'✓' if place.match else '✗'} {place.distance:.2f}"
        cells.append((rank, *_lines(run, place.position)))
    title = f"{image_set.paths[position]} · identity {identity} · camera {camera} · average precision "
    picture = Picture(f"ranking-{name}", style.png(sheet), alt)
    return Ranking(picture, title + f"{percent(precision)} %", tuple(cells))


def _lines(run: Run, position: int) -> tuple[str, str, str]:
    image_set = run.test.image_set
    identity = image_set.identity_names[image_set.identities[position]]
    return identity, f"camera {image_set.cameras[position]}", str(image_set.paths[position])


def attention(run: Run, other: Run | None) -> Section:
    """Heat maps of both runs, and the gates of this one."""
    image_set = run.test.image_set
    positions = heatmaps.choose(image_set.identities, image_set.modalities, count=PERSONS)
    this = run.attention(positions) if positions.size else None
    if this is None:
        missing = f"The method {run.config.method} does not tell what it attends to: it has no function `attention`."
        if not positions.size:
            missing = "No identity of the test set has an image in both modalities."
        return Section("attention", "Attention", (Text(missing, "missing"),))
    modalities = image_set.modalities[positions]
    titles = [f"{MODALITIES[image_set.modalities[i]]}\ncamera {image_set.cameras[i]}" for i in positions]
    second = other.attention(positions) if other is not None else None
    drawing = heatmaps.figure(run.images(positions), titles, this, second)
    names = [image_set.identity_names[image_set.identities[i]] for i in positions[::2]]
    gates = "This model has no gates."
    if this.spatial:
        gates = (
            "Spatial gates say where the model looks, at each level of the cascade; all images share the scale of a "
            "level."
        )
    text = (
        "Activation: the mean over the channels of the squared final feature map, scaled to the range of each image. "
        f"It knows no class, so it can be drawn for any network. {gates}"
    )
    alt = "Test images and, below each, heat maps of what the models attend to."
    told = f"Identities, two images each: {', '.join(names)}."
    blocks: list[Block] = [Text(text), Picture("attention", style.png(drawing, dpi=110), alt, told)]
    if this.channel:
        gates_drawing = style.png(heatmaps.channel_figure(this, modalities))
        alt = "Channel gates of each level, stripe by stripe, for visible and for infrared images."
        told = (
            "Channel gates say what passes: the mean over the images above, stripe by stripe from the top of the "
            "image, visible above infrared. Where the two rows of a stripe differ, the model uses other channels for "
            "the other modality."
        )
        blocks.append(Picture("channel-gates", gates_drawing, alt, told))
    return Section("attention", "Attention", tuple(blocks))


def translated(run: Run) -> Section | None:
    """Test images in the other modality, where the method translates."""
    image_set = run.test.image_set
    positions = heatmaps.choose(image_set.identities, image_set.modalities, count=PERSONS)
    found = run.translations(positions) if positions.size else None
    if found is None:
        return None
    titles = [f"{MODALITIES[image_set.modalities[i]]}\ncamera {image_set.cameras[i]}" for i in positions]
    images = run.images(positions)
    error = found.error(images)
    text = (
        "The model makes of each image one of the other modality, and of that again one of its own: its cycle. "
        f"An image and its cycle differ by {error.mean():.0f} of 255 gray levels in the mean."
    )
    alt = "Test images, and below each its translation and its cycle."
    names = [image_set.identity_names[image_set.identities[i]] for i in positions[::2]]
    told = f"Identities, two images each: {', '.join(names)}."
    picture = Picture("translations", style.png(translations.figure(images, titles, found), dpi=110), alt, told)
    return Section("translations", "Translations", (Text(text), picture))


def map_of_identities(run: Run, other: Run | None) -> Section:
    """Test identities in two dimensions."""
    image_set = run.test.image_set
    positions = embedding_map.choose(image_set.identities, image_set.modalities)
    if positions.size < embedding_map.MIN_POINTS:
        missing = f"The test set has fewer than {embedding_map.MIN_POINTS} images of identities with both modalities."
        return Section("map", "Map of identities", (Text(missing, "missing"),))
    maps = {"this run": embedding_map.embed(run.features[positions])}
    if other is not None:
        maps["second run"] = embedding_map.embed(other.features[positions])
    identities = image_set.identities[positions]
    drawing = embedding_map.figure(maps, identities, image_set.modalities[positions])
    names = [image_set.identity_names[identity] for identity in np.unique(identities)]
    legend = ", ".join(f"{number}: {name}" for number, name in enumerate(names, 1))
    text = (
        f"{positions.size} images of {len(names)} test identities, chosen with a seed, by t-SNE of the embedding. "
        "Color and number are the identity, the shape is the modality. A modality-invariant embedding mixes the shapes "
        "within a color. Distances between clusters, and their sizes, mean little in such a map."
    )
    picture = Picture("map", style.png(drawing), "Test images as points in the plane.", f"Identities: {legend}.")
    return Section("map", "Map of identities", (Text(text), picture))


def distances(run: Run, other: Run | None) -> Section:
    """Histograms of distances."""
    image_set = run.test.image_set
    runs = {"this run": run} | ({"second run": other} if other is not None else {})
    counted = {
        title: histograms.counts(of.features, image_set.identities, image_set.modalities) for title, of in runs.items()
    }
    pairs = ", ".join(
        f"{counts.sum():,} {where}-modality {sign}" for (where, sign), counts in counted["this run"].items()
    )
    text = (
        "Cosine distances of all pairs of test images, in each modality and between the two. The less the two "
        "distributions overlap, the better one threshold tells persons apart. The right column is what this task "
        "searches by."
    )
    drawing = style.png(histograms.figure(counted))
    picture = Picture("distances", drawing, "Histograms of distances.", f"Pairs: {pairs}.")
    return Section("distances", "Distances", (Text(text), picture))


def by_camera(run: Run) -> Section:
    """Scores of each query camera."""
    image_set = run.test.image_set
    found = cameras.scores(cosine_distances(run.features), image_set.identities, image_set.cameras, run.test.primary)
    text = (
        "The primary metric's protocol, split by the camera of the query and of the gallery; means over its trials. A "
        "query counts where the gallery holds a match, so columns may differ in their queries. A smaller gallery is "
        "easier."
    )
    tables = (scores.camera_table(found, metric) for metric in ("rank1", "mAP"))
    return Section("cameras", "Cameras", (Text(text), *tables))


def settings(run: Run, other: Run | None) -> Section:
    """The config and the versions."""
    blocks: list[Block] = []
    if other is not None:
        rows = tuple(tuple(map(Cell, row)) for row in differences(run.config, other.config))
        header = ("field", "this run", "second run")
        blocks.append(Table("Settings in which the runs differ", header, rows, "text"))
    fields = tuple((Cell(f"config.{name}"), Cell(value)) for name, value in flat(run.config).items())
    blocks.append(Details("All settings of this run", (Table("Config", ("field", "value"), fields, "text"),)))
    if record := run.provenance:
        told = {"command": record["command"], "weights at the start": " ".join(record["weights"].values())}
        train, test = record["train"], record["test"]
        told |= (
            train
            and {
                "source": " ".join(record["source"]),
                "splits trained on": ", ".join(train["splits"]),
                "training images": f"{train['images']:,} of {train['identities']:,} identities",
                "their digest": train["digest"],
                "training identities": ", ".join(train["names"]),
                "test images": f"{test['images']:,} of {test['identities']:,} identities",
                "their digest ": test["digest"],
            }
            or {"training images": "not known"}
        )
        rows = tuple((Cell(name), Cell(value)) for name, value in told.items())
        blocks.append(Details("What the run was made from", (Table("Provenance", ("what", "value"), rows, "text"),)))
    if VERSIONS_FILE in run.records.problems:
        blocks.append(Text(run.records.problems[VERSIONS_FILE], "missing"))
    else:
        listed = {n: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for n, v in run.records.versions.items()}
        versions = tuple(tuple(map(Cell, item)) for item in listed.items())
        blocks.append(Table("Versions while training", ("package", "version"), versions, "text"))
    return Section("settings", "Settings and versions", tuple(blocks))

"""The scaling benchmark: what it reads from compiled programs, and what its predictions make of that."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import costs, prediction, scaling
from benchmarks.hlo import Collective, collectives
from benchmarks.prediction import Chip, Work
from jax_mspac import methods
from jax_mspac.runtime import parallel

ROOT = pathlib.Path(__file__).parents[1]
TINY = scaling.Step("resnet18", height=96, width=16, model_width=4, classes=100, identities=2, devices=1)
# A byte takes a second inside an island of four, and ten between islands.
CHIP = Chip(
    name="slow",
    flops=1 / prediction.COMPUTE,
    memory=1e-9 / prediction.MEMORY,
    island=4,
    fast=1e-9 / prediction.LINKS,
    slow=1e-10 / prediction.LINKS,
    torus=False,
    near=3.0,
    far=100.0,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Rows of a small run of the command, in the file that it wrote, and what it said."""
    file = tmp_path_factory.mktemp("scaling") / "scaling.json"
    command = [sys.executable, "benchmarks/scaling.py", "--json", str(file), "--backbone", "resnet18"]
    command += "--height 96 --width 16 --model-width 4 --identities 2 --devices 2 --regimes strong".split()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())["rows"], file, done.stdout


def test_rows_of_the_command_agree_with_the_count_by_hand(measured):
    rows, _, said = measured
    assert [(row["name"], row["devices"], row["images"]) for row in rows] == [
        ("resnet18 strong", 1, 16),
        ("resnet18 strong", 2, 8),
    ]
    assert "resnet18 strong" in said and "ratio" in said
    alone, two = rows
    assert alone["ratio"] == 1 and alone["ours"] == alone["peer"] == two["peer"]
    # Half of the images, but all of the optimizer's work.
    assert 1.5 < two["ratio"] == two["peer"] / two["ours"] < 2
    for row in rows:
        assert row["all_reduce"] == row["all_reduce_by_hand"] > 0
        # The default losses compare no example with those of other devices.
        for kind in ("all_gather", "reduce_scatter"):
            assert row[kind] == row[f"{kind}_by_hand"] == 0
        assert 0 < row["gradients"] < row["all_reduce"] and row["gradients"] <= 4 * row["parameters"]
        assert row["feature_dim"] == 8 * 4


def test_an_earlier_run_is_read_as_a_module_too(measured):
    rows, file, _ = measured
    command = [sys.executable, "-m", "benchmarks.scaling", "--read", str(file), "--predict"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == prediction.markdown(rows).strip() and "H200" in done.stdout, done.stderr


def test_every_kind_of_collective_is_counted():
    text = """HloModule step
%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}
ENTRY %main_spmd (x: f32[8]) -> f32[] {
  %r.1 = (f32[2,8]{1,0}, /*index=1*/bf16[3]{0}, f32[]) all-reduce(%x, %y, %z), replica_groups={{0,1}}, to_apply=%sum
  %all-reduce.7 = f32[] add(%r.1, %r.1)
  %g = s32[16]{0} all-gather(%l), dimensions={0}
  %s = f32[4,2]{1,0} reduce-scatter(%d), replica_groups=[3,2]<=[6], dimensions={0}, to_apply=%sum
  ROOT %t = f32[7]{0} all-reduce(%s), replica_groups={{0,1,2},{3,4,5}}, to_apply=%sum
}
"""
    assert collectives(text, devices=6) == [
        Collective("all-reduce", 2 * 8 * 4 + 3 * 2 + 4, devices=2),
        Collective("all-gather", 16 * 4, devices=6),
        Collective("reduce-scatter", 2 * 4 * 2 * 4, devices=2),
        Collective("all-reduce", 7 * 4, devices=3),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "%body (x: f32[8]) -> f32[8] {\n  %r = f32[8]{0} all-reduce(%x), to_apply=%sum\n}",
        "ENTRY %main (x: f32[8]) -> f32[8] {\n  %r = f32[8]{0} all-reduce-start(%x), to_apply=%sum\n}",
    ],
)
def test_a_collective_that_cannot_be_counted_is_refused(text):
    with pytest.raises(ValueError, match="cannot be counted"):
        collectives(text, devices=2)


def test_collectives_of_a_program_of_our_own():
    def update(state, batch):
        gathered = parallel.gather(batch)
        return parallel.average(state + batch.mean()), {"loss": parallel.average(jnp.sum(gathered**2))}

    update = parallel.data_parallel(update, jax.devices()[:4])
    lowered = update.lower(jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((4, 5), jnp.float32))
    found = collectives(lowered.compile().as_text(), devices=4)
    assert sum(size for kind, size, _ in found if kind == "all-gather") == 4 * 5 * 4
    assert sum(size for kind, size, _ in found if kind == "all-reduce") == (3 + 1) * 4


def test_groups_of_devices_gather_their_own_batch_and_sum_gradients_with_all():
    step = dataclasses.replace(TINY, devices=4, group=2, pairs=True)
    flops, found = scaling.figures(step)
    for kind in ("all_reduce", "all_gather", "reduce_scatter"):
        assert found[kind] == found[f"{kind}_by_hand"] > 0
    # The gradients, the metrics and the running statistics go to all devices at once.
    assert found["collectives"] - found["collectives_of_group"] == 1
    alone, others = scaling.figures(dataclasses.replace(TINY, devices=2, pairs=True))
    assert flops == pytest.approx(alone, rel=1e-4) and found["all_gather"] == others["all_gather"]


def test_pairs_of_a_chip_grow_with_the_chips_and_not_with_their_square():
    row = {"images": 8, "feature_dim": 32, "ours": 1e6}
    few, many = (costs.pair_costs(row, chips) for chips in (2, 8))
    assert few == {"examples": 16, "bytes": 4 * 16 * 33, "flops": 3 * 2 * 8 * 16 * 32, "flops_of_all_pairs": 98304 // 2}
    assert many["flops"] == 4 * few["flops"] and many["flops_of_all_pairs"] == 16 * few["flops_of_all_pairs"]
    # A chip alone has nothing else to compare with.
    assert costs.pair_costs(row, 1)["flops"] == costs.pair_costs(row, 1)["flops_of_all_pairs"]
    assert "| 1,024 | 8,192 | 1.1 | 0.01 | 92.6 % | 13 |" in costs.pairs_table(row)


def test_identities_cost_what_the_program_says():
    few, many = (dataclasses.replace(TINY, classes=classes, identities=8) for classes in (100, 1100))
    flops, states = [], []
    for step in (few, many):
        method = methods.build(step.config, num_identities=step.classes)
        flops.append(scaling.lowered(step, method).cost_analysis()["flops"])
        states.append(jax.eval_shape(method.init, jax.random.key(0)).training["networks"]["heads"]["params"])
    found = costs.identity_costs({"feature_dim": 32, "images": 64}, 1000)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(heads)) for heads in states]
    assert sizes[1] - sizes[0] == found["parameters"] == found["bytes"] / 4 == found["memory"] / 12
    # The rest are some operations per logit and, in the optimizer, per parameter: a small part where features are long.
    rest = flops[1] - flops[0] - found["flops"]
    assert 0 < rest < 30 * (64 * 1000 + found["parameters"])


@pytest.mark.parametrize("chips", [2, 3, 4])
def test_sending_is_a_ring(chips):
    # Twice around, all but the own part at each stop.
    steps = [24 / chips for _ in range(2 * (chips - 1))]
    assert prediction.sending(2 * 24, CHIP, chips) == pytest.approx(sum(steps))


def test_sending_between_islands():
    # 4 chips of 3 islands each: 3/4 of the array inside; of each chip's quarter 2/3 at a tenth of the speed.
    assert prediction.sending(24, CHIP, 12) == pytest.approx(18 + 10 * 24 / 4 * 2 / 3)


def test_latency_is_there_and_back():
    assert prediction.latency(CHIP, 4) == 2 * 3
    assert prediction.latency(CHIP, 32) == 2 * (3 + 3 * 100)  # 8 islands: a tree of three levels
    torus = dataclasses.replace(CHIP, torus=True, island=256)
    assert prediction.latency(torus, 64) == 2 * 8 * 3


def test_seconds_of_a_step_by_hand():
    work = Work(flops=60.0, bytes_accessed=100.0, gradients=16.0, statistics=4.0, gathered=8.0, collectives=5)
    alone = prediction.seconds(work, CHIP, 1)
    assert alone.overlapped == alone.in_turn == pytest.approx(60)  # arithmetic takes longer than half of the bytes
    assert prediction.seconds(work._replace(bytes_accessed=200.0), CHIP, 1).compute == pytest.approx(100)
    took = prediction.seconds(work, CHIP, 4)
    assert took == pytest.approx((60, 3 / 4 * (2 * 4 + 8) + 5 * 6, 3 / 4 * 2 * 16))
    assert took.in_turn == pytest.approx(60 + 42 + 24)
    assert took.overlapped == pytest.approx(60 + 42)  # 40 s of going backwards hide 24 s
    long = prediction.seconds(work._replace(gradients=32.0), CHIP, 4)
    assert long.overlapped == pytest.approx(60 + 42 + 48 - 40)


def test_seconds_of_groups_by_hand():
    # Two groups of four chips: a chip waits for its group, and once for all.
    work = Work(60.0, 0.0, gradients=16.0, statistics=4.0, gathered=8.0, collectives=5, group=4, collectives_of_group=4)
    took = prediction.seconds(work, CHIP, 8)
    once = 2 * (3 + 100)
    assert took == pytest.approx((60, 3 / 4 * (2 * 4 + 8) + 4 * 6 + once, prediction.sending(2 * 16, CHIP, 8)))
    # Of two hundred groups the waits are the same, but for the one.
    assert prediction.seconds(work, CHIP, 800).waits - took.waits == 2 * (3 + 8 * 100) - once


def test_more_chips_than_were_compiled_for_lie_on_a_line():
    def row(devices, flops):
        sent = {"all_reduce": 70, "gradients": 60, "all_gather": 5 * devices, "reduce_scatter": 4 * devices}
        return {"devices": devices, "ours": flops, "bytes_accessed": 1000, "collectives": 7, **sent}

    rows = [row(1, 90.0), row(2, 100.0), row(4, 102.0), row(8, 106.0)]  # one device is an exception
    assert prediction.extrapolated(rows, 1).flops == 90 and prediction.extrapolated(rows, 4).flops == 102
    assert prediction.extrapolated(rows, 100) == Work(198.0, 1000, 60, 10, 900, 7)
    # A group's work is the same in all groups.
    rows[-1] |= {"group": 4, "collectives_of_group": 6, "averaged": 3}
    assert prediction.extrapolated(rows, 100) == Work(106.0, 1000, 63, 7, 72, 7, 4, 6)


@pytest.mark.parametrize(("name", "excluded"), [("folder", 0), ("llcm", 12)])
def test_costs_of_cameras_by_hand(name, excluded):
    # In each of two directions 2 cameras x 3 persons search as many images, of which one is of the same of both.
    assert costs.camera_costs(name, 2, identities=3, images=1) == {
        "rows": 2,
        "trials": 20,
        "queries": 12,
        "gallery": 12,
        "ranked": 72,
        "excluded": excluded,
    }


def test_the_page_rests_on_the_assumptions_of_the_command():
    page = words((ROOT / "docs" / "scaling.md").read_text())
    for part in (prediction.chips_table(), prediction.assumptions(), costs.cameras_table()):
        assert words(part) in page


def words(text):
    """What Markdown says, however its lines are broken."""
    return " ".join(re.sub(r"^\|[ |-]+\|$", "", text, flags=re.M).split())

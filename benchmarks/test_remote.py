"""Programs of the benchmarks in processes of their own."""

import os

import pytest

from benchmarks.remote import Remote, in_turn

PROGRAM = "benchmarks.test_remote:Program"


class Program:
    def __init__(self, total):
        self.total = total

    def add(self, number):
        self.total += number
        return self.total, os.getpid()

    def end(self):
        os._exit(1)


def test_a_program_lives_in_one_other_process():
    with Remote(PROGRAM, 10) as one, Remote(PROGRAM, 20) as two:
        (first, one_pid), (second, two_pid), (third, again) = one("add", 1), two("add", 2), one("add", 3)
        assert (first, second, third) == (11, 22, 14)
        assert one_pid == again and len({one_pid, two_pid, os.getpid()}) == 3
        with pytest.raises(TypeError, match="unsupported operand"):
            two("add", "text")
        assert two("add", 1)[0] == 23
        with pytest.raises(SystemExit, match="process of benchmarks.test_remote:Program has ended.*memory"):
            two("end")


def test_a_program_that_cannot_start_says_why():
    with pytest.raises(TypeError, match="total"):
        Remote(PROGRAM)


def test_measures_take_turns():
    order = []
    measures = [lambda name=name: order.append(name) or len(order) for name in ("ours", "peer")]
    assert in_turn(measures, 2) == [[1, 3], [2, 4]]
    assert order == ["ours", "peer", "ours", "peer"]

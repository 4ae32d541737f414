"""Times as users write them."""

import datetime

import pytest

from jax_mspac.errors import UserError
from jax_mspac.search.entries import seconds, time_text


@pytest.mark.parametrize(
    "time, expected",
    [
        ("1970-01-02", 86400.0),
        ("1970-01-01 00:01", 60.0),
        ("1970-01-01T01:00:00.5+01:00", 0.5),
        ("1970-01-01T00:00:10Z", 10.0),
        (" -3.5", -3.5),
        (7, 7.0),
        (datetime.datetime(1970, 1, 1, 0, 2), 120.0),
        (datetime.datetime(1970, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))), 0.0),
        ("", None),
        (None, None),
    ],
)
def test_times_are_seconds_since_1970_utc(time, expected):
    assert seconds(time) == expected


@pytest.mark.parametrize("time", ["noon", "28.11.2026", "2026-13-01", "nan", "inf", float("nan")])
def test_what_is_no_time_is_named(time):
    with pytest.raises(UserError, match=f"time is '{time}'; expected seconds since 1970, or a date"):
        seconds(time)


def test_times_are_shown_in_utc_and_read_again():
    assert time_text(seconds("2026-11-28T14:05:00+01:00")) == "2026-11-28 13:05:00"
    for time in (0.25, 1795871100.0):
        assert seconds(time_text(time)) == time
    assert time_text(None) == "" and time_text(1e30) == "1000000000000000019884624838656 s"

"""`python -m jax_mspac.export` in the process of a test."""

import pytest
from absl import app, flags

from jax_mspac.export import __main__ as door


def export(*arguments):
    """Does what the command does with these flags."""
    values = flags.FlagValues()
    door.define_flags(values)
    door.run(values(["export", *map(str, arguments)]), values)


def refused(*arguments):
    """The line that the command ends with."""
    with pytest.raises((SystemExit, app.UsageError, flags.IllegalFlagValueError)) as end:
        export(*arguments)
    return str(end.value)

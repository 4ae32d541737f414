"""Shards: indexes within the folder of another one, of processes that add to it together; see `sharing`."""

import pathlib

from jax_mspac.errors import UserError

# What their names begin with.
PREFIX = "shard-"


def check_none(folder: pathlib.Path | None) -> None:
    """Raises a UserError where shards lie in the folder of an index: what they hold would come after what is done now.

    So it is while processes add together, and after they were interrupted. Without a folder there are no shards.
    """
    if folder and (found := sorted(path.name for path in folder.glob(f"{PREFIX}*"))):
        raise UserError(
            f"{folder} holds {', '.join(found)}: processes add to it together, or were interrupted. Let them end, or "
            "give their command again; one process does, with --num_processes=1 --process_id=0 and any "
            "--coordinator_address"
        )

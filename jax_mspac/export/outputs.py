"""Where an export is written: whole or not at all, and over nothing that was not asked for."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from jax_mspac.errors import UserError


def check_free(output: pathlib.Path, *, overwrite: bool) -> None:
    """Checks that a file, or a folder of files, may be written there.

    Raises:
      UserError: there is something, and `overwrite` is not set.
    """
    filled = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if filled and not overwrite:
        raise UserError(f"{output} exists: name another --output, or replace what an export writes there: --overwrite")


@contextlib.contextmanager
def folder(output: pathlib.Path, *, overwrite: bool) -> Iterator[pathlib.Path]:
    """A folder to write files to, which become those of `output` at the end; what fails leaves `output` as it was.

    Files of other names that lie in `output` stay.

    Raises:
      UserError: `output` is a file, or a folder that is not empty, and `overwrite` is not set.
    """
    check_free(output, overwrite=overwrite)
    if output.is_file():
        raise UserError(f"{output} is a file; --output names a folder here")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{error.filename} is a file; a folder is needed there: name another --output") from None
    partial = output.with_name(f"{output.name}.partial")
    # Of a process that was ended.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        output.mkdir(exist_ok=True)
        for path in sorted(partial.iterdir()):
            path.replace(output / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

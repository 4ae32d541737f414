"""Files that are written whole or not at all."""

import os
import pathlib


def write_whole(path: str | os.PathLike, content: str | bytes) -> pathlib.Path:
    """Writes a file, text as UTF-8 whatever the locale; its path has all of it or what was there before."""
    path = pathlib.Path(path)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    return partial.replace(path)

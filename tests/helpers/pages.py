"""The examples of the documentation, run as the modules that a reader would make of them."""

import pathlib
import re
import sys
import types

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def blocks_of(page: str, heading: str, language: str = "python") -> list[str]:
    """The code blocks of a language under a heading of the second level."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", (DOCS / page).read_text(), re.M | re.S)
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.M | re.S)


def module_of(page: str, heading: str) -> types.ModuleType:
    """The only Python block under a heading, as a module; dataclasses look for theirs in `sys.modules`."""
    (code,) = blocks_of(page, heading)
    module = types.ModuleType(f"{page.partition('.')[0]}_{heading.lower().replace(' ', '_')}")
    sys.modules[module.__name__] = module
    exec(compile(code, f"{DOCS / page}: {heading}", "exec"), module.__dict__)
    return module

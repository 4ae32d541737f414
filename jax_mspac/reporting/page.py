"""The page: sections of text, tables and pictures to one HTML file that needs nothing else."""

import base64
import dataclasses
import pathlib

import jinja2
from markupsafe import Markup

from jax_mspac.runtime.files import write_whole

_FOLDER = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table; `strong` and `faint` say how it is set."""

    text: str
    strong: bool = False
    faint: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first column names its rows; the note follows the caption, less loud.

    Rows have as many cells as the header; `kind` is "numbers" for columns of numbers, "text" for columns of text.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kind: str = "numbers"
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure: the name of its file without the suffix, its bytes, what it shows, in words, and what stands below."""

    name: str
    png: bytes
    alt: str
    caption: str = ""
    kind: str = "picture"

    @property
    def data(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclasses.dataclass(frozen=True)
class Ranking:
    """A strip of a query and what it found, its images in cells of equal width, with lines of text under each."""

    picture: Picture
    title: str
    cells: tuple[tuple[str, ...], ...]
    kind: str = "ranking"


@dataclasses.dataclass(frozen=True)
class Details:
    """Blocks that are folded away until the reader opens them."""

    summary: str
    blocks: tuple["Block", ...]
    kind: str = "details"


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph, a heading within a section, or a note that something is missing ("missing")."""

    text: str
    kind: str = "paragraph"


Block = Table | Picture | Ranking | Details | Text


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the page; `anchor` is where the table of contents leads."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class Page:
    """A whole report. `lead` says what it is of, `notes` what a reader must know.

    `figures` are the few numbers that stand at the top: (value, name).
    """

    title: str
    lead: str
    figures: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    sections: tuple[Section, ...]


def render(page: Page) -> str:
    """The HTML of a page. Every text is escaped; pictures are inlined."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((_FOLDER / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html.jinja").render(page=page, style=style)


def write(page: Page, folder: pathlib.Path) -> pathlib.Path:
    """Writes index.html, whole or not at all, and the pictures as PNG files beside it; returns the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for section in page.sections:
        for picture in pictures(section.blocks):
            (folder / f"{picture.name}.png").write_bytes(picture.png)
    return write_whole(folder / "index.html", render(page))


def pictures(blocks: tuple[Block, ...]) -> list[Picture]:
    """All pictures in some blocks, in their order."""
    found: list[Picture] = []
    for block in blocks:
        match block:
            case Picture():
                found.append(block)
            case Ranking():
                found.append(block.picture)
            case Details():
                found += pictures(block.blocks)
    return found

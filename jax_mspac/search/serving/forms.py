"""Fields of a form as the values that they stand for."""

from starlette.datastructures import FormData

from jax_mspac.errors import UserError

# What rounding may add to a cosine.
_ROUNDING = 1e-3


def texts(form: FormData, name: str) -> list[str]:
    """All values of a field that are no files."""
    return [value for value in form.getlist(name) if isinstance(value, str)]


def text(form: FormData, name: str) -> str:
    """The first value of a field, without outer spaces; "" if there is none."""
    return next(iter(texts(form, name)), "").strip()


def number(form: FormData, name: str) -> float:
    """A similarity.

    Raises:
      UserError: it is no number from -1 to 1.
    """
    try:
        value = float(text(form, name))
    except ValueError:
        value = float("nan")
    if not abs(value) <= 1 + _ROUNDING:
        raise UserError(f"{name} is {text(form, name)!r}; expected a number from -1 to 1")
    return value


def whole(form: FormData, name: str, *, default: int, most: int) -> int:
    """A whole number from 1 to `most`.

    Raises:
      UserError: it is none.
    """
    given = text(form, name) or str(default)
    if not (given.isascii() and given.isdigit() and len(given) <= len(str(most)) and 1 <= int(given) <= most):
        raise UserError(f"{name} is {given[:40]!r}; expected a number from 1 to {most}")
    return int(given)

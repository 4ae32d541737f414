"""Who a person is: body, hair, garments, shoes and bag. Nothing here changes between images."""

import colorsys
import dataclasses

import numpy as np

Color = tuple[float, float, float]

PATTERNS = ("solid", "horizontal", "vertical", "checks", "dots", "diagonal", "blocks", "halves", "logo")
HAIR_STYLES = ("bald", "short", "bob", "long", "ponytail", "bun", "hat")
BOTTOMS = ("trousers", "shorts", "skirt")
BAGS = ("none", "backpack", "shoulder", "handbag")


@dataclasses.dataclass(frozen=True)
class Material:
    """A surface. Visible cameras see the colors and infrared cameras the reflectances; both see the pattern.

    Colors are RGB in [0, 1]; reflectance is near-infrared brightness in [0, 1], drawn independently of the color. Those
    of the pattern, one of PATTERNS, are called accent; its period is in body heights.
    """

    color: Color
    accent: Color
    reflectance: float
    accent_reflectance: float
    pattern: str = "solid"
    period: float = 0.1


@dataclasses.dataclass(frozen=True)
class Body:
    """Proportions; 1 is the average person.

    Height is of the whole body, `limbs` the thickness of arms and legs; long legs are at the expense of the trunk.
    """

    height: float
    shoulders: float
    hips: float
    limbs: float
    head: float
    legs: float


@dataclasses.dataclass(frozen=True)
class Hair:
    """Hair or hat. `style` is one of HAIR_STYLES; `length` is in body heights and matters where hair hangs."""

    style: str
    length: float
    material: Material


@dataclasses.dataclass(frozen=True)
class Top:
    """Shirt, jacket or coat. `sleeve` is the share of the arm that is covered, 0 to 1.

    `hem` is where it ends, as a share of the leg below the hip, and `flare` the width there relative to the hips.
    """

    sleeve: float
    hem: float
    flare: float
    material: Material


@dataclasses.dataclass(frozen=True)
class Bottom:
    """Trousers, shorts or skirt (BOTTOMS). `length` is the share of the leg it covers, `flare` its width at the end."""

    kind: str
    length: float
    flare: float
    material: Material


@dataclasses.dataclass(frozen=True)
class Bag:
    """A bag. `kind` is one of BAGS, `size` is in body heights, `side` is +1 (left) or -1 (right)."""

    kind: str
    size: float
    side: int
    material: Material


@dataclasses.dataclass(frozen=True)
class Person:
    """Everything about a person that stays the same from image to image."""

    body: Body
    skin: Material
    hair: Hair
    top: Top
    bottom: Bottom
    shoes: Material
    bag: Bag


def sample_person(seed: int, identity: int) -> Person:
    """The person with number `identity` of the population `seed`; a pure function of the two."""
    # Images draw from [seed, identity, camera, index] with camera >= 1: this stream is none of theirs.
    rng = np.random.default_rng([seed, identity, 0, 0])
    body = Body(
        height=rng.uniform(0.88, 1.04),
        shoulders=rng.uniform(0.84, 1.2),
        hips=rng.uniform(0.85, 1.22),
        limbs=rng.uniform(0.8, 1.3),
        head=rng.uniform(0.88, 1.15),
        legs=rng.uniform(0.93, 1.06),
    )
    shade = rng.uniform(0.45, 1.0)
    skin = _plain((0.93 * shade, 0.76 * shade, 0.65 * shade), rng.uniform(0.6, 0.8))
    return Person(body, skin, _hair(rng), _top(rng), _bottom(rng), _material(rng, plain=1.0), _bag(rng))


def _hair(rng: np.random.Generator) -> Hair:
    style = str(rng.choice(HAIR_STYLES, p=(0.08, 0.24, 0.16, 0.2, 0.12, 0.08, 0.12)))
    hanging = {"bob": (0.1, 0.14), "long": (0.19, 0.3), "ponytail": (0.16, 0.24)}.get(style, (0.0, 0.0))
    if style == "hat":
        material = _material(rng, plain=1.0)
    else:
        color = colorsys.hsv_to_rgb(rng.uniform(0.04, 0.12), rng.uniform(0.15, 0.7), rng.uniform(0.08, 0.75))
        material = _plain(color, rng.uniform(0.08, 0.5))
    return Hair(style, rng.uniform(*hanging), material)


def _top(rng: np.random.Generator) -> Top:
    sleeve = rng.choice((0.05, 0.4, 0.62, 0.95), p=(0.12, 0.33, 0.1, 0.45))
    coat = sleeve > 0.9 and rng.random() < 0.45
    hem = rng.uniform(0.3, 0.72) if coat else rng.uniform(-0.08, 0.16)
    return Top(float(sleeve), hem, rng.uniform(0.95, 1.35), _material(rng, plain=0.2))


def _bottom(rng: np.random.Generator) -> Bottom:
    kind = str(rng.choice(BOTTOMS, p=(0.5, 0.25, 0.25)))
    length = {"trousers": (0.8, 1.0), "shorts": (0.28, 0.5), "skirt": (0.3, 0.9)}[kind]
    flare = rng.uniform(1.0, 1.9) if kind == "skirt" else rng.uniform(0.95, 1.8)
    return Bottom(kind, rng.uniform(*length), flare, _material(rng, plain=0.55))


def _bag(rng: np.random.Generator) -> Bag:
    kind = str(rng.choice(BAGS, p=(0.34, 0.26, 0.2, 0.2)))
    return Bag(kind, rng.uniform(0.12, 0.2), int(rng.choice((-1, 1))), _material(rng, plain=0.7))


def _material(rng: np.random.Generator, *, plain: float) -> Material:
    """A random garment; a share `plain` of them is without pattern."""
    main = _color(rng)
    accent = _color(rng)
    if sum(abs(m - a) for m, a in zip(main, accent, strict=True)) < 0.75:  # a pattern has to be seen
        red, green, blue = (1.0 - m if abs(m - 0.5) > 0.2 else 0.95 for m in main)
        accent = red, green, blue
    reflectance = rng.uniform(0.1, 0.85)
    # Dyes that differ to the eye often reflect infrared alike: part of the patterns fades.
    contrast = rng.uniform(0.1, 0.6) * (1.0 if reflectance < 0.45 else -1.0)
    pattern = "solid" if rng.random() < plain else str(rng.choice(PATTERNS[1:]))
    return Material(main, accent, reflectance, reflectance + contrast, pattern, rng.uniform(0.05, 0.15))


def _color(rng: np.random.Generator) -> Color:
    if rng.random() < 0.4:
        gray = rng.choice((0.08, 0.2, 0.45, 0.7, 0.92))
        return (gray, gray, float(np.clip(gray + rng.uniform(-0.02, 0.06), 0.0, 1.0)))
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 0.95), rng.uniform(0.2, 0.95))


def _plain(color: Color, reflectance: float) -> Material:
    return Material(color, color, reflectance, reflectance)

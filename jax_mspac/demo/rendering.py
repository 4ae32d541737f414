"""A picture of a person, taken by a camera."""

import dataclasses

import numpy as np

from jax_mspac.demo import scenery
from jax_mspac.demo.appearance import Bag, Material, Person
from jax_mspac.demo.cameras import Camera, develop
from jax_mspac.demo.painting import Paint, capsule, ellipse, strip
from jax_mspac.demo.pose import SIDES, sample_pose, skeleton
from jax_mspac.modalities import INFRARED

Points = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class View:
    """How one picture shows the person: scale in pixels per body height, yaw of the body as the camera sees it.

    `modality` is "visible" or "infrared"; `rim` and `side` are the shading of rounded surfaces, see `painting.Paint`.
    """

    modality: str
    scale: float
    yaw: float
    rim: float
    side: float

    def paint(self, material: Material) -> Paint:
        """The material as this camera sees it: reflectance in infrared, color otherwise."""
        if self.modality == INFRARED:
            main, accent = np.array([[material.reflectance], [material.accent_reflectance]], np.float32)
        else:
            main, accent = np.array([material.color, material.accent], np.float32)
        period = material.period * self.scale
        return Paint(main, accent, material.pattern, period, self.yaw, self.rim, self.side)

    def facing(self, front: float, side: float) -> float:
        """Pixels that a half width `front` (as seen from the front) and `side` (from the side) span in this view."""
        return self.scale * float(np.hypot(front * np.cos(self.yaw), side * np.sin(self.yaw)))


def image_rng(seed: int, identity: int, camera: int, index: int) -> np.random.Generator:
    """The randomness of one picture of the data set `seed`; independent of every other picture's."""
    return np.random.default_rng([seed, identity, camera, index])


def render(person: Person, camera: Camera, rng: np.random.Generator, *, height: int, width: int) -> np.ndarray:
    """One picture, uint8 [height, width, 3]; pose, framing, occlusion, background, light and noise come from `rng`.

    The call advances `rng`; the same state gives the same picture.
    """
    heading = rng.choice(4, p=camera.headings)
    yaw = float((0.0, -0.5, 1.0, 0.5)[heading] * np.pi + rng.normal(0.0, 0.3))
    pose = sample_pose(rng, yaw=yaw)
    pixels = scenery.background(camera, rng, height=height, width=width)
    scale = camera.size * height * np.exp(rng.normal(0.0, 0.06))
    view = View(camera.modality, scale, yaw, rim=rng.uniform(0.15, 0.45), side=rng.normal(0.0, 0.15))
    middle = rng.normal((0.5, 0.5), (0.07, 0.025)) * (width, height)  # detectors center the box on the person
    foot = middle + [0.0, 0.49 * scale * person.body.height]
    roll = camera.roll + rng.normal(0.0, 0.03)
    points = _project(skeleton(person.body, pose), camera, view, foot=foot, roll=roll)
    _draw(pixels, person, points, view)
    scenery.occlude(pixels, rng)
    return develop(pixels, camera, rng)


def _project(joints: Points, camera: Camera, view: View, *, foot: np.ndarray, roll: float) -> Points:
    """Joints in the picture: float64 [3] each, x and y in pixels and the nearness to the camera in body heights."""
    cos, sin = np.cos(view.yaw), np.sin(view.yaw)
    projected = {}
    for name, (x, y, z) in joints.items():
        aside, near = x * cos + z * sin, z * cos - x * sin
        up = (y * np.cos(camera.pitch) - near * np.sin(camera.pitch)) * (1.0 + 0.5 * camera.taper * (y - 1.0))
        aside *= 1.0 + camera.taper * (y - 0.5)
        right, up = aside * np.cos(roll) + up * np.sin(roll), up * np.cos(roll) - aside * np.sin(roll)
        projected[name] = np.array([foot[0] + view.scale * right, foot[1] - view.scale * up, near])
    return projected


def _draw(pixels: np.ndarray, person: Person, points: Points, view: View) -> None:
    """Paints the person from back to front."""
    front = np.cos(view.yaw)
    far, near = sorted(SIDES, key=lambda side: points[f"shoulder{side:+d}"][2])
    sideways = abs(np.sin(view.yaw)) > 0.3  # one arm hangs behind the trunk
    if front >= 0.0:
        _hanging_hair(pixels, person, points, view)
    if front >= 0.25:
        _backpack(pixels, person.bag, points, view)
    if sideways:
        _arm(pixels, person, points, view, far)
    for side in (far, near):
        _leg(pixels, person, points, view, side)
    if person.bottom.kind == "skirt":
        _skirt(pixels, person, points, view)
    _trunk(pixels, person, points, view)
    for side in (near,) if sideways else (far, near):
        _arm(pixels, person, points, view, side)
    if front > -0.2:
        _straps(pixels, person.bag, points, view)
    _shoulder_bag(pixels, person.bag, points, view)
    _head(pixels, person, points, view)
    if front < 0.25:
        _backpack(pixels, person.bag, points, view)
    if front < 0.0:
        _hanging_hair(pixels, person, points, view)


def _leg(pixels: np.ndarray, person: Person, points: Points, view: View, side: int) -> None:
    hip, knee, ankle, toe = (points[f"{joint}{side:+d}"] for joint in ("hip", "knee", "ankle", "toe"))
    thick = person.body.limbs * view.scale
    radii = (0.05 * thick, 0.033 * thick, 0.02 * thick)
    bottom = person.bottom
    if bottom.kind == "skirt" or bottom.length < 0.8:
        _limb(pixels, (hip, knee, ankle), radii, 1.0, view.paint(person.skin))
    if bottom.kind != "skirt":
        loose = tuple(
            radius * (1.08 + (bottom.flare - 1.0) * wide) for radius, wide in zip(radii, (0.2, 0.6, 1.4), strict=True)
        )
        _limb(pixels, (hip, knee, ankle), loose, bottom.length, view.paint(bottom.material))
    radius = 0.021 * view.scale
    capsule(pixels, ankle[:2] + [0.0, 0.012 * view.scale], toe[:2], (radius, 0.85 * radius), view.paint(person.shoes))


def _arm(pixels: np.ndarray, person: Person, points: Points, view: View, side: int) -> None:
    joints = tuple(points[f"{joint}{side:+d}"] for joint in ("shoulder", "elbow", "wrist"))
    thick = person.body.limbs * view.scale
    radii = (0.034 * thick, 0.026 * thick, 0.018 * thick)
    skin = view.paint(person.skin)
    if person.bag.kind == "handbag" and person.bag.side == side:
        _handbag(pixels, person.bag, joints[2], view)
    ellipse(pixels, joints[2][:2], (0.022 * thick, 0.026 * thick), skin)
    if person.top.sleeve < 0.9:
        _limb(pixels, joints, radii, 1.0, skin)
    loose = tuple(1.2 * radius for radius in radii)
    _limb(pixels, joints, loose, person.top.sleeve, view.paint(person.top.material))


def _limb(pixels: np.ndarray, joints: tuple, radii: tuple[float, ...], covered: float, paint: Paint) -> None:
    """Two capsules along three joints, from the first on, for the share `covered` of the way."""
    upper, middle, lower = (joint[:2] for joint in joints)
    share = min(2.0 * covered, 1.0)
    below = max(2.0 * covered - 1.0, 0.0)
    end = middle + below * (lower - middle)
    if below > 0.0:
        capsule(pixels, middle, end, (radii[1], radii[1] + below * (radii[2] - radii[1])), paint)
    end = upper + share * (middle - upper)
    capsule(pixels, upper, end, (radii[0], radii[0] + share * (radii[1] - radii[0])), paint)


def _trunk(pixels: np.ndarray, person: Person, points: Points, view: View) -> None:
    body, top = person.body, person.top
    neck, hip = points["neck"][:2], points["hip"][:2]
    capsule(pixels, neck, points["head"][:2], (0.032 * view.scale, 0.032 * view.scale), view.paint(person.skin))
    down = hip - neck
    hem = hip + top.hem * (points["ankle+1"][:2] + points["ankle-1"][:2] - 2.0 * hip) * 0.5
    length = float(np.hypot(*(hem - neck)))
    waist, hips = (float(np.hypot(*down)) * share / length for share in (0.62, 0.98))
    shoulders = view.facing(0.118 * body.shoulders, 0.072 * body.limbs)
    middle = view.facing(0.086 * (body.shoulders + body.hips) / 2.0, 0.075 * body.limbs)
    seat = view.facing(0.1 * body.hips, 0.09 * body.hips)
    widths = [(0.0, 0.3 * shoulders), (0.1, 0.78 * shoulders), (0.2, shoulders), (waist, middle * top.flare**0.5)]
    if hips < 1.0:
        widths.append((hips, seat))
    widths.append((1.0, seat * top.flare))
    if top.hem < 0.05:  # the seat of the trousers shows below a short top
        lower = hip + 0.05 * view.scale * down / np.hypot(*down)
        below = ((0.0, middle), (0.7, seat), (1.0, 0.9 * seat))
        strip(pixels, hip - 0.3 * down, lower, below, view.paint(person.bottom.material))
    strip(pixels, neck - 0.02 * down, hem, tuple(widths), view.paint(top.material))


def _skirt(pixels: np.ndarray, person: Person, points: Points, view: View) -> None:
    hip = points["hip"][:2]
    hem = hip + person.bottom.length * ((points["ankle+1"][:2] + points["ankle-1"][:2]) * 0.5 - hip)
    seat = view.facing(0.1 * person.body.hips, 0.09 * person.body.hips)
    stride = 0.5 * abs(points["knee+1"][0] - points["knee-1"][0])
    wide = max(seat * person.bottom.flare, stride + 0.045 * view.scale)
    waist = hip - [0.0, 0.08 * view.scale]
    strip(pixels, waist, hem, ((0.0, 0.85 * seat), (0.3, 1.03 * seat), (1.0, wide)), view.paint(person.bottom.material))


def _head(pixels: np.ndarray, person: Person, points: Points, view: View) -> None:
    center = points["head"][:2]
    radius = 0.062 * person.body.head * view.scale
    front, aside = np.cos(view.yaw), np.sin(view.yaw)
    style, hair, skin = person.hair.style, view.paint(person.hair.material), view.paint(person.skin)
    if style == "bald":
        ellipse(pixels, center, (0.84 * radius, 1.08 * radius), skin)
        return
    if style == "bun":
        ellipse(pixels, center + [-0.55 * radius * aside, -1.05 * radius], (0.5 * radius, 0.45 * radius), hair)
    cap = 0.9 * radius if style in ("short", "hat") else radius
    ellipse(pixels, center, (cap, 1.12 * radius), hair)
    if front > -0.5:
        face = radius * (0.5 + 0.22 * max(front, 0.0))
        ellipse(pixels, center + [0.42 * radius * aside, 0.22 * radius], (face, 0.86 * radius), skin)
    elif style in ("short", "hat"):  # the nape shows
        ellipse(pixels, center + [0.0, 0.75 * radius], (0.55 * radius, 0.4 * radius), skin)
    if style == "hat":
        brim = center + [0.45 * radius * aside, -0.35 * radius]
        strip(pixels, brim, brim + [0.0, 0.3 * radius], ((0.0, 1.15 * radius), (1.0, 1.35 * radius)), hair)
        ellipse(pixels, center - [0.0, 0.7 * radius], (0.92 * radius, 0.6 * radius), hair)


def _hanging_hair(pixels: np.ndarray, person: Person, points: Points, view: View) -> None:
    """A bob, long hair or a ponytail, from the crown down."""
    if person.hair.length == 0.0:
        return
    radius = 0.062 * person.body.head * view.scale
    crown = points["head"][:2] - [0.25 * radius * np.sin(view.yaw), 0.4 * radius]
    end = crown + [-0.03 * view.scale * np.sin(view.yaw), person.hair.length * view.scale]
    hair = view.paint(person.hair.material)
    if person.hair.style == "ponytail":
        tie = crown - [0.75 * radius * np.sin(view.yaw), 0.0]
        capsule(pixels, tie, end - [1.1 * radius * np.sin(view.yaw), 0.0], (0.35 * radius, 0.25 * radius), hair)
    else:
        strip(pixels, crown, end, ((0.0, 0.9 * radius), (0.4, 1.2 * radius), (1.0, 1.3 * radius)), hair)


def _backpack(pixels: np.ndarray, bag: Bag, points: Points, view: View) -> None:
    if bag.kind != "backpack":
        return
    outward = -0.12 * np.sin(view.yaw) * view.scale
    top = 0.88 * points["neck"][:2] + 0.12 * points["hip"][:2] + [outward, 0.0]
    down = points["hip"][:2] - points["neck"][:2]
    end = top + down / np.hypot(*down) * 1.7 * bag.size * view.scale
    half = view.facing(0.55 * bag.size, 0.4 * bag.size)
    widths = ((0.0, 0.7 * half), (0.15, half), (0.85, 1.05 * half), (1.0, 0.85 * half))
    strip(pixels, top, end, widths, view.paint(bag.material))


def _straps(pixels: np.ndarray, bag: Bag, points: Points, view: View) -> None:
    if bag.kind != "backpack":
        return
    paint = view.paint(dataclasses.replace(bag.material, pattern="solid"))
    radius = 0.013 * view.scale
    shift = [0.05 * view.scale * np.sin(view.yaw), 0.0]
    for side in SIDES:
        shoulder = 0.6 * points[f"shoulder{side:+d}"][:2] + 0.4 * points["neck"][:2]
        lower = shoulder + 0.5 * (points["hip"][:2] - points["neck"][:2]) + shift
        capsule(pixels, shoulder, lower, (radius, radius), paint)


def _shoulder_bag(pixels: np.ndarray, bag: Bag, points: Points, view: View) -> None:
    if bag.kind != "shoulder":
        return
    strap = view.paint(dataclasses.replace(bag.material, pattern="solid"))
    shoulder = 0.6 * points[f"shoulder{-bag.side:+d}"][:2] + 0.4 * points["neck"][:2]
    sideways = points[f"shoulder{bag.side:+d}"][:2] - points["neck"][:2]
    rest = points["hip"][:2] + 1.1 * sideways * [1.0, 0.0]
    radius = 0.011 * view.scale
    capsule(pixels, shoulder, rest, (radius, radius), strap)
    if points[f"shoulder{bag.side:+d}"][2] > -0.08:  # otherwise the body hides it
        half = view.facing(0.25 * bag.size, 0.5 * bag.size) + 0.02 * view.scale
        top, end = rest - [0.0, 0.02 * view.scale], rest + [0.0, 0.75 * bag.size * view.scale]
        strip(pixels, top, end, ((0.0, half), (1.0, 1.1 * half)), view.paint(bag.material))


def _handbag(pixels: np.ndarray, bag: Bag, wrist: np.ndarray, view: View) -> None:
    paint = view.paint(bag.material)
    half = view.facing(0.2 * bag.size, 0.5 * bag.size) + 0.015 * view.scale
    top = wrist[:2] + [0.0, 0.05 * view.scale]
    capsule(pixels, wrist[:2], top - [0.6 * half, 0.0], (0.007 * view.scale, 0.007 * view.scale), paint)
    capsule(pixels, wrist[:2], top + [0.6 * half, 0.0], (0.007 * view.scale, 0.007 * view.scale), paint)
    strip(pixels, top, top + [0.0, bag.size * view.scale], ((0.0, 0.85 * half), (1.0, half)), paint)

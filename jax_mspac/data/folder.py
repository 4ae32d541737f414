"""Your own files, one folder per identity: TFDS builder."""

import collections
import hashlib
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac.data import checks, infrared_laws, listing
from jax_mspac.data import images as pixels
from jax_mspac.data.data_set import DataSet, Found, ImageFile
from jax_mspac.data.splits import check_options, split_identities
from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, VISIBLE
from jax_mspac.protocols import folder
from jax_mspac.protocols.base import RetrievalProtocol

# File names of public data sets: 0002_c1s1_000451_03.jpg (Market-1501 and DukeMTMC), 0001_c03_0005.jpg, 0001_3_5.png.
PATTERNS = {
    "market1501": r"(?P<identity>-?\d+)_c(?P<camera>\d+)",
    "identity_camera": r"(?P<identity>[^_]+)_(?:c|cam)?(?P<camera>\d+)_",
}


def find(
    *,
    source: str,
    rgb: str = "rgb",
    ir: str = "ir",
    simulate_infrared: bool = False,
    infrared_law: str = "mixed",
    test_identities: str = "",
    test_fraction: float = 0.4,
    val_fraction: float = 0.0,
    folds: int = 0,
    fold: int = 0,
    seed: int = 0,
    range_16_bit: str = "",
    pattern: str = "",
    skip_bad_images: bool = False,
) -> Found:
    """What there is in `source`/{rgb,ir}/<identity>/<image> or .../<identity>/<camera>/<image>.

    Also read: `source`/<identity>/{rgb,ir}/<image>, and, with a `pattern`, files whose names tell identity and camera.

    Cameras are numbered from 1 in the order of their names; without a camera level the rgb folder is camera 1 and the
    ir folder camera 2.

    Args:
      source: the root folder.
      rgb: sub-folder with the visible images.
      ir: sub-folder with the infrared images.
      simulate_infrared: derive the infrared images from visible ones: from those in the ir folder, or, where there is
        none, from a part of the rgb folder as `derive_infrared` chooses it.
      infrared_law: by which they are derived, a name of `infrared_laws.LAWS`.
      test_identities: text file with the name of one test identity per line, or empty for a random choice.
      test_fraction: share of the identities in test, of those with both modalities; unused with `test_identities` and
        with `folds`.
      val_fraction: share of the identities in val; with `test_identities` or `folds`, of the others. A split without a
        share does not exist.
      folds: of a cross-validation: the identities are drawn into so many test sets, and `fold` is one of them; 0 draws
        a single test set.
      fold: 1 to `folds`; each trains a model of its own. 0 stands for all of them, and their mean.
      seed: of the split and of the simulated images.
      pattern: of file names below {rgb,ir}, for folders that do not tell identities: a name of `PATTERNS`, or a regular
        expression with the groups `identity` and, if names tell it, `camera`.
      range_16_bit: "LOW,HIGH", what becomes black and white of 16-bit samples; else percentiles, see `images.read_rgb`.
      skip_bad_images: leave out images that cannot be read.

    Raises:
      UserError: an option is out of range, or a folder or the list of test identities is missing, or no image is there.
    """
    named = listing.root_of(source, _layout(rgb, ir))
    shares: dict[str, Any]
    shares = {"test_fraction": test_fraction, "val_fraction": val_fraction, "folds": folds, "fold": fold}
    check_options(test_identities=test_identities, **shares)
    infrared_laws.check(infrared_law, simulated=simulate_infrared)
    limits = pixels.parsed_range(range_16_bit)
    root = _find_root(named, rgb, ir, simulate_infrared)
    # Identities hold rgb and ir, not the other way round.
    turned = not (root / rgb).is_dir()
    tops = [path.name for path in listing.folders(root)] if turned else (rgb, ir)
    listed = listing.walk(root, tops, depth=2)
    if not listed.images:
        raise UserError(f"{root}: no image found in {rgb} and {ir}. {_layout(rgb, ir)}")
    if pattern:
        images, problems = matched(listed, _compiled(pattern), rgb=rgb, ir=ir)
    else:
        images, problems = place(_turned(listed) if turned else listed, rgb=rgb, ir=ir)
    if turned:
        images = [image._replace(path=_turn(image.path)) for image in images]
    if simulate_infrared and any(image.modality == INFRARED for image in images):
        images = [image._replace(simulated=image.modality == INFRARED) for image in images]
    elif simulate_infrared:
        images = derive_infrared(images, rgb=rgb, ir=ir)
    names = {image.camera for image in images}
    cameras = [rgb, ir] if names <= {rgb, ir} else sorted(names)
    test_names = _read_names(test_identities) if test_identities else None
    splits, split_problems = split_identities(images, test_names=test_names, seed=seed, **shares)
    options = {
        "rgb": rgb,
        "ir": ir,
        "simulate_infrared": infrared_law if simulate_infrared else False,
        "test_names": test_names,
        "seed": seed,
        "range_16_bit": limits,
        "pattern": pattern,
        "skip_bad_images": skip_bad_images,
        **shares,
    }
    numbered = [image._replace(camera=str(cameras.index(image.camera) + 1)) for image in images]
    return Found(
        name=listing.fingerprint(root, listed.images, options),
        description=f"Photographs of {root.resolve()}" + (f", fold {fold} of {folds}" if folds else ""),
        root=root,
        splits={
            split: [image for image in numbered if image.identity in identities] for split, identities in splits.items()
        },
        cameras=cameras,
        read=lambda image: _bytes(root / image.path, image, seed, limits, infrared_law),
        check=lambda found: checks.check(
            found, folder_of=lambda file: rgb if file.modality == VISIBLE else ir, false_color=True
        ),
        problems=problems + split_problems,
        warnings=_remarks(root, listed.others, images),
        skip_bad_images=skip_bad_images,
        metadata={"simulated_infrared": simulate_infrared, "infrared_law": infrared_law if simulate_infrared else ""},
    )


def parts(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The folds of a cross-validation, where `fold` is 0."""
    folds = fields["folds"]
    if folds < 2 or fields["fold"]:
        return {}
    return {f"fold_{number:0{len(str(folds))}}": {"fold": number} for number in range(1, folds + 1)}


def search(
    identities: np.ndarray,
    cameras: np.ndarray,
    modalities: np.ndarray,
    *,
    shots: Sequence[int] = (1,),
    trials: int = 10,
    exclude_same_camera: bool = False,
) -> list[RetrievalProtocol]:
    """See `protocols.folder`."""
    return folder.protocols(
        identities, cameras, modalities, shots=shots, trials=trials, exclude_same_camera=exclude_same_camera
    )


def place(found: listing.Listing, *, rgb: str, ir: str) -> tuple[list[ImageFile], list[str]]:
    """Reads identity, camera and modality off the paths.

    Returns:
      The files, sorted by path, and one line per thing that is out of place.
    """
    files, stray, identities, deep = [], [], set(), []
    for top, modality in ((rgb, VISIBLE), (ir, INFRARED)):
        for path in _below(top, (file.path for file in found.images)):
            match path.split("/"):
                case [identity, _]:
                    files.append(ImageFile(f"{top}/{path}", identity, top, modality))
                case [identity, camera, _]:
                    files.append(ImageFile(f"{top}/{path}", identity, camera, modality))
                case _:
                    stray.append(f"{top}/{path}: lies outside the folder of an identity; move it into one")
        for path in _below(top, found.folders):
            identities.add(path.split("/")[0])
            if path.count("/") > 1:
                deep.append(f"{top}/{path}: lies deeper than {top}/<identity>/<camera>; move it up")
    empty = sorted(identities - {file.identity for file in files})
    empty = [f"identity {identity}: there is no image in its folder; fill it or remove it" for identity in empty]
    return sorted(files), [line for lines in (stray, deep, empty) for line in listing.shorten(lines)]


def matched(
    found: listing.Listing, pattern: re.Pattern[str], *, rgb: str, ir: str
) -> tuple[list[ImageFile], list[str]]:
    """As `place`, with identity and camera read off the names of the files, in whatever folders below rgb and ir."""
    files, strange = [], []
    for top, modality in ((rgb, VISIBLE), (ir, INFRARED)):
        for path in _below(top, (file.path for file in found.images)):
            if names := pattern.match(path.rpartition("/")[2]):
                camera = names.groupdict().get("camera") or top
                files.append(ImageFile(f"{top}/{path}", names["identity"], camera, modality))
            else:
                strange.append(
                    f"{top}/{path}: its name does not fit config.data.pattern {pattern.pattern!r}; rename it"
                )
    return sorted(files), listing.shorten(strange)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(PATTERNS.get(pattern, pattern))
        if "identity" in compiled.groupindex:
            return compiled
        reason = "it has no group (?P<identity>...)"
    except re.error as error:
        reason = str(error)
    expected = f"{', '.join(PATTERNS)}, or a regular expression such as {PATTERNS['market1501']}"
    raise UserError(f"config.data.pattern is {pattern!r}, but {reason}; expected {expected}")


def _turn(path: str) -> str:
    """<identity>/rgb/... as rgb/<identity>/..., and back."""
    first, second, *rest = path.split("/")
    return "/".join((second, first, *rest))


def _turned(found: listing.Listing) -> listing.Listing:
    inside = [path for path in found.folders if "/" in path]
    images = [file._replace(path=_turn(file.path)) for file in found.images if "/" in file.path]
    return listing.Listing(images, found.others, list(map(_turn, inside)))


def _holds_identities(root: pathlib.Path, tops: Sequence[str]) -> bool:
    """Whether several folders hold some of `tops` with images right in them, and this one none of `tops`."""
    if any((root / top).is_dir() for top in tops):
        return False
    return sum(bool(listing.walk(path, tops, depth=0).images) for path in listing.folders(root)) > 1


def derive_infrared(files: Iterable[ImageFile], *, rgb: str, ir: str) -> list[ImageFile]:
    """Turns a part of each identity's visible files into simulated infrared; none is on both sides.

    Of several cameras every second one changes, of a single camera every second image. A changed camera is a camera
    of its own, named <camera>-<ir> (without a camera level, <ir>), since other identities may keep it visible.
    """
    by_identity = collections.defaultdict(list)
    for file in sorted(files):
        by_identity[file.identity].append(file)
    changed = set()
    for group in by_identity.values():
        second = sorted({file.camera for file in group})[1::2]
        changed.update([file for file in group if file.camera in second] or group[1::2])
    return [
        p._replace(camera=ir if p.camera == rgb else f"{p.camera}-{ir}", modality=INFRARED, simulated=True)
        if p in changed
        else p
        for p in sorted(files)
    ]


def _below(top: str, paths: Iterable[str]) -> Iterator[str]:
    return (path.removeprefix(f"{top}/") for path in paths if path.startswith(f"{top}/"))


def _bytes(file: pathlib.Path, image: ImageFile, seed: int, limits: pixels.Range | None, law: str) -> bytes:
    if not image.simulated:
        return pixels.stored_bytes(file, limits)
    digest = hashlib.sha256(f"{seed}/{image.path}".encode()).digest()
    infrared = infrared_laws.simulate(pixels.read_rgb(file, limits), int.from_bytes(digest[:8]), law)
    return pixels.encode_png(infrared[..., 0])


def _read_names(path: str) -> list[str]:
    """The names in the file of test identities, sorted."""
    try:
        lines = pathlib.Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"test_identities {path}: cannot be read as a text file, one name per line ({error})"
        ) from error
    names = sorted({line.strip() for line in lines} - {""})
    if not names:
        raise UserError(f"test_identities {path}: names no identity; write one name per line")
    return names


def _remarks(root: pathlib.Path, others: Sequence[listing.File], files: Iterable[ImageFile]) -> list[str]:
    """What the user should know, of files and identities that are passed over."""
    remarks = []
    if others:
        suffixes = sorted({pathlib.PurePosixPath(file.path).suffix or file.path for file in others})
        remarks.append(
            f"{root}: {len(others)} files are no images, and passed over ({', '.join(listing.shorten(suffixes, 5))}); "
            "convert those that should count"
        )
    seen = collections.defaultdict(set)
    for file in files:
        seen[file.identity].add(file.modality)
    if single := sorted(identity for identity, modalities in seen.items() if len(modalities) == 1):
        remarks.append(
            f"{root}: {len(single)} of {len(seen)} identities have images of one modality only "
            f"({', '.join(listing.shorten(single, 5))}) and are left out of val and test; add the other modality"
        )
    return remarks


def _find_root(named: pathlib.Path, rgb: str, ir: str, simulate_infrared: bool) -> pathlib.Path:
    if not rgb or not ir or rgb == ir:
        raise UserError(f"rgb {rgb!r} and ir {ir!r}: they must name two different folders below {named}")
    for below in (named, *listing.folders(named)):
        if _holds_identities(below, (rgb, ir)):
            return below
    root = listing.find_root(named, (rgb, ir)) or named
    needed = [rgb] if simulate_infrared else [rgb, ir]
    missing = [name for name in needed if not (root / name).is_dir()]
    if not missing:
        return root
    there = [path.name for path in listing.folders(root)]
    absent, present = " and no folder ".join(missing), ", ".join(listing.shorten(there)) or "none"
    raise UserError(f"{root}: there is no folder {absent} in it, but {present}. {_layout(rgb, ir)}")


def _layout(rgb: str, ir: str) -> str:
    return (
        f"Expected in it: {rgb}/<identity>/<image> and {ir}/<identity>/<image>, or <identity>/<camera>/<image>, or "
        f"<identity>/{rgb}/<image> and <identity>/{ir}/<image>; config.data.pattern reads identities off file names. "
        "--config.data.rgb and --config.data.ir (of jax_mspac.prepare: --rgb and --ir) take other names for these two "
        "folders. Without an infrared camera, --config.data.simulate_infrared=True (--simulate_infrared) derives "
        "infrared images from photographs. configs/demo.py needs no data at all"
    )


SET = DataSet(name="folder", title="your photographs", find=find, protocols=search, config="folder", parts=parts)

"""Images and masks of the same names: in two folders, or in one where the masks' names have a suffix more."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tabib.config import SegmentationData
from tabib.dataset.listing import PART_NAMES, WITHOUT_IMAGE, WITHOUT_MASKS, Listed, list_files, out_of_place, without_suffix
from tabib.errors import DataError

__all__ = ["list_pairs", "pair_up"]

DRAWING = """Expected two folders with the same names, or one folder in which the masks' names have a suffix more:
    {folder}/images/cell1.png         {folder}/cell1.png
    {folder}/masks/cell1.png    or    {folder}/cell1_mask.png   (images: ., masks: ., mask_suffix: _mask)"""


def list_pairs(data: SegmentationData) -> list[Listed]:
    """List the images below `data.images`, each with the mask that is called as it is; masks without an image are refused.

    Folders inside match as names do. A folder called train, validation or test, above the two or inside them, gives a part.

    Raises:
        DataError: no images in the folder of images, or no mask of any of them.
    """
    listed: list[Listed] = []
    images: dict[str, list[str]] = defaultdict(list)
    masks: dict[str, list[str]] = defaultdict(list)
    for entry in list_files(data.folder):
        name, is_mask = _name_of(entry.path, data)
        if entry.refused:
            listed.append(entry)
        elif name is None:
            listed.append(Listed(entry.path, refused=out_of_place(entry.path, _outside(data))))
        else:
            (masks if is_mask else images)[name].append(entry.path)
    if not images:
        raise DataError(
            f"{data.folder} holds no images where data.images says, in {data.images!r}; it holds {_found(data)}.\n{DRAWING.format(folder=data.folder)}"
        )
    if not images.keys() & masks.keys():
        raise DataError(_no_pair(data, images, masks))
    return listed + list(pair_up(images, masks))


def pair_up(images: Mapping[str, Sequence[str]], masks: Mapping[str, Sequence[str]]) -> Iterator[Listed]:
    """Give each image the mask of its name; a name that stands for several files is refused, and so is a mask without an image.

    Args:
        images: by name the paths of the images that are called so.
        masks: by name the paths of the masks of the image of that name.
    """
    for name, paths in images.items():
        found = masks.get(name, [])
        part = PART_NAMES.get(name.partition("/")[0].casefold()) if "/" in name else None
        refused = None
        for kind, files in (("images", paths), ("masks", found)):
            if len(files) > 1:
                refused = f"{len(files)} {kind} are called so, {' and '.join(map(repr, files[:2]))}; keep the one that counts"
        for path in paths:
            yield Listed(path, given=part, refused=refused, mask=found[0] if found and refused is None else None)
    for name in masks.keys() - images.keys():
        for path in masks[name]:
            yield Listed(path, refused=f"{WITHOUT_IMAGE}: no image is called {name.rpartition('/')[2]!r}")


def _name_of(path: str, data: SegmentationData) -> tuple[str | None, bool]:
    """What an image and its mask are both called, and whether this is the mask; no name for what lies elsewhere."""
    head, _, rest = path.partition("/")
    inner = [(f"{head}/", rest)] if rest and head.casefold() in PART_NAMES else []
    for part, below in [("", path), *inner]:
        places = [(prefix, is_mask) for prefix, is_mask in ((_prefix(data.images), False), (_prefix(data.masks), True))]
        for prefix, is_mask in sorted(places, key=lambda place: len(place[0]), reverse=True):
            if below.startswith(prefix):
                name = without_suffix(part + below.removeprefix(prefix))
                suffix = data.mask_suffix or ""
                if _prefix(data.images) == _prefix(data.masks):
                    is_mask = bool(suffix) and name.endswith(suffix)
                return (name.removesuffix(suffix) if is_mask else name), is_mask
    return None, False


def _prefix(folder: str) -> str:
    """How paths below a folder of the data folder begin; "" for that folder itself."""
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    return "".join(f"{part}/" for part in parts)


def _outside(data: SegmentationData) -> str:
    return f"{WITHOUT_MASKS}: lies neither in {data.images!r} nor in {data.masks!r}"


def _found(data: SegmentationData) -> str:
    """The first entries of the data folder, for a message."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(data.folder))
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "nothing"


def _no_pair(data: SegmentationData, images: Mapping[str, Sequence[str]], masks: Mapping[str, Sequence[str]]) -> str:
    """Why no image has a mask, and the suffix that would join them where there is one."""
    if not masks:
        where = f"in {data.masks!r}" + (f" with names that end in {data.mask_suffix!r}" if data.mask_suffix else "")
        return (
            f"{data.folder} holds {sum(map(len, images.values()))} images and no masks {where}; it holds {_found(data)}.\n"
            f"{DRAWING.format(folder=data.folder)}"
        )
    first, mask = min(images), min(masks)
    more = {name.removeprefix(other) for name in masks for other in images if name.startswith(other)} if len(images) <= 1000 else set()
    hint = f"mask_suffix: {more.pop()} would join them." if len(more) == 1 else "Give them the same names up to the suffix of the file."
    return (
        f"No mask below {data.folder} is called as an image is: {images[first][0]!r} is an image and {masks[mask][0]!r} a mask. {hint}\n"
        f"{DRAWING.format(folder=data.folder)}"
    )

"""From paths to the images that are predicted: each one file, a file for each channel, or the slices of a DICOM series."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tabib.dataset import CHANNEL, find_stack, together
from tabib.errors import ImageError
from tabib.images import Series, Volume, check_values, find_series, read_channels, read_stack, read_volume
from tabib.prediction.folder import path_text
from tabib.records import SegmentationModel

__all__ = ["Gathered", "gather"]


@dataclass(frozen=True)
class Gathered:
    """The files of one image."""

    path: str  # as tables call it
    stem: str  # what its mask is called, without suffix
    files: list[Path]  # of which a mask takes its geometry from the first
    channels: list[str]  # of a model of images with a file for each channel, their names
    series: Series | None = None
    time: int = 0

    @property
    def stack(self) -> tuple[Series, int]:
        """The series and the time point of a DICOM image."""
        if self.series is not None:
            return self.series, self.time
        file = self.files[0]
        if file.is_file():
            return find_series([file])[0][0], 0
        stack = find_stack(file.parent, file.name)  # a time point, as in heart[3]
        return stack.series, stack.time or 0

    def read(self) -> Volume:
        """Read the image; `ImageError` where it cannot be read, has no value that is a number, or lacks a channel."""
        volume = self._stored()
        check_values(volume, self.path)
        return volume

    def _stored(self) -> Volume:
        if self.series is not None:
            return read_stack(self.series, self.path, time=self.time)
        if not self.channels:
            return read_volume(self.files[0])
        if len(self.files) != len(self.channels):
            raise ImageError(
                f"has {len(self.files)} of the {len(self.channels)} channels ({', '.join(self.channels)}) that the model sees; give a file for "
                "each, called NAME_0000, NAME_0001 and so on, beside each other"
            )
        return read_channels(self.files)


def gather(files: Sequence[Path], model: SegmentationModel) -> list[Gathered]:
    """Gather files to images: those of a DICOM series to its volume at each time point, those of channels to their image.

    Args:
        files: in the order in which images are predicted; of a series its first file counts.
        model: says whether an image has a file for each channel.
    """
    places = {file: place for place, file in enumerate(files)}
    found: list[tuple[int, Gathered]] = []
    rest = list(files)
    if not model.channel_names:
        series = [one for one in find_series(files)[0] if len(_files(one)) > 1]
        for one in series:
            own = _files(one)
            found += [(min(places[file] for file in own), each) for each in _moments(one, own, files)]
        taken = {file for one in series for file in _files(one)}
        rest = [file for file in files if file not in taken]
    channels: dict[Path, list[Path]] = defaultdict(list)
    for file in rest:
        channels[file.with_name(_name(file, model)) if model.channel_names else file].append(file)
    for own in map(sorted, channels.values()):
        path = together([path_text(file) for file in own]) if own[1:] else path_text(own[0])
        found.append((places[own[0]], Gathered(path, _name(own[0], model), own, model.channel_names)))
    return _apart([each for _, each in sorted(found, key=lambda pair: pair[0])])


def _files(series: Series) -> list[Path]:
    return sorted({one.path for moment in series.slices for one in moment if one is not None})


def _moments(series: Series, own: Sequence[Path], files: Sequence[Path]) -> list[Gathered]:
    """The time points of a series, called as its folder where there is nothing else in and below it, or as its first file."""
    folder = Path(os.path.commonpath([file.parent for file in own]))
    place = folder if sum(file.is_relative_to(folder) for file in files) == len(own) else own[0]
    stem = place.name if place is folder else re.sub(r"\.[A-Za-z][A-Za-z0-9]*$", "", place.name)
    times = range(len(series.slices))
    return [
        Gathered(f"{path_text(place)}[{time}]", f"{stem}-time{time}", list(own), [], series, time)
        if len(times) > 1
        else Gathered(path_text(place), stem, list(own), [], series)
        for time in times
    ]


def _name(file: Path, model: SegmentationModel) -> str:
    """The name of an image by that of its file, without what is for the suffix, the frame and the channel."""
    name = re.sub(r"\.(nii(\.gz)?|[A-Za-z0-9]+)(\[\d+\])?$", "", file.name)
    return CHANNEL.sub(r"\1", name) if model.channel_names else name


def _apart(images: Sequence[Gathered]) -> list[Gathered]:
    """With a number behind the stem where two images in different folders are called alike."""
    found: dict[str, int] = {}
    apart = []
    for image in images:
        found[image.stem] = found.get(image.stem, 0) + 1
        stem = image.stem if found[image.stem] == 1 else f"{image.stem}-{found[image.stem]}"
        apart.append(replace(image, stem=stem))
    return apart

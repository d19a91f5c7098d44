"""Folders of pictures as samples."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlaconv.arrays import Shape
from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.errors import UnreadableError, UsageError
from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.execution import Arrays
from dlaconv.preprocessing import CENTRAL, CHANNELS, Preprocessing

if TYPE_CHECKING:
    from PIL import Image

    from dlaconv.ir.pixels import Pixels

_LOG = logging.getLogger(__name__)
_MODES = dict(zip(CHANNELS, ("L", "RGB"), strict=True))
_DEEP = ("I", "F")
"""Pictures of more than 8 bits; what their values mean only their maker knows."""
_LISTED = 20
"""Skipped files that a warning names."""


class ImageFolder(Dataset):
    """The pictures of a folder and those below it, in the order of their paths.

    Attributes:
        files: the pictures.
        skipped: the files that are no pictures or cannot be read, with the reason.
    """

    def __init__(
        self,
        folder: Path,
        shapes: Mapping[str, Shape | None],
        how: Preprocessing,
        pixels: Mapping[str, Pixels] | None = None,
    ) -> None:
        """Reads every picture once, so that it is known which of them can be read.

        Args:
            folder: where they are.
            shapes: the graph inputs with their shapes; there must be one.
            how: what is done to them.
            pixels: graph inputs that take pixels: pictures are only resized and cropped then.

        Raises:
            UsageError: if the network does not take pictures, or it is not said what is done.
            UnreadableError: if no file can be read.
        """
        self._fit = _Fit(shapes, how, folder, pixels or {})
        self.names = (self._fit.name,)
        self.skipped: dict[Path, str] = {}
        files = []
        candidates = sorted(path for path in folder.rglob("*") if path.is_file())
        for index, path in enumerate(candidates):
            _LOG.info("image %d of %d", index + 1, len(candidates))
            try:
                self._fit.read(path)
            except _PROBLEMS as error:
                self.skipped[path] = _reason(error)
            else:
                files.append(path)
        self.files = tuple(files)
        if not files:
            raise UnreadableError(
                Diagnostic(
                    "DLA330",
                    "no-images",
                    f"none of the {len(candidates)} files is a picture that can be read",
                    location=Location(file=str(folder)),
                    help="give a folder of PNG, JPEG or other pictures, or an .npz of samples",
                    notes=self._listed(),
                )
            )

    def __len__(self) -> int:
        return len(self.files)

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`.

        Raises:
            UnreadableError: if a picture could be read before and now cannot.
        """
        for path in self.files:
            try:
                yield {self._fit.name: self._fit.read(path)}
            except _PROBLEMS as error:
                raise UnreadableError(
                    Diagnostic(
                        "DLA409",
                        "changed-source",
                        f"the picture could be read before, and now cannot: {_reason(error)}",
                        location=Location(file=str(path)),
                        help="wait until whatever writes the folder has ended",
                    )
                ) from error

    def diagnostics(self) -> Diagnostics:
        """One warning of all files that are left out."""
        found = Diagnostics()
        if self.skipped:
            found.warning(
                "DLA331",
                "skipped-files",
                f"{len(self.skipped)} of {len(self.skipped) + len(self)} files are no pictures or "
                "cannot be read, and are left out",
                location=Location(file=str(next(iter(self.skipped)).parent)),
                help="take them out of the folder, or mend them",
                notes=self._listed(),
            )
        return found

    def _listed(self) -> tuple[str, ...]:
        lines = [f"{path}: {why}" for path, why in self.skipped.items()]
        more = len(lines) - _LISTED
        return (*lines[:_LISTED], f"and {more} more") if more > 0 else tuple(lines)


class _Fit:
    """From a picture to the values of one graph input."""

    def __init__(
        self,
        shapes: Mapping[str, Shape | None],
        how: Preprocessing,
        folder: Path,
        pixels: Mapping[str, Pixels],
    ) -> None:
        self._place = Location(file=str(folder))
        self._share = CENTRAL.get(how.preset or "", 1.0)
        self._resized = how.resize is not None
        if not how.says_values and not pixels:
            raise UsageError(
                Diagnostic(
                    "DLA332",
                    "pixel-values",
                    "it is not said which values the network takes for pixels of 0 to 255",
                    location=self._place,
                    help="give --preset torchvision, tf, caffe, unit or raw, or --scale, --mean "
                    "and --std, as in training",
                    notes=("other values than in training lead to other ranges of every map",),
                )
            )
        self.how = how.with_preset()
        self.name, shape = self._only(shapes)
        self._last = self.how.channel_axis(shape) == len(shape) - 1
        height, width, channels = (
            (shape[1], shape[2], shape[3]) if self._last else (shape[2], shape[3], shape[1])
        )
        if channels not in _MODES:
            self._refuse(f"has {channels} channels; pictures have 1 or 3")
        self._mode = _MODES[channels or 0]
        crop = _pair(self.how.crop) or (height, width)
        if crop != (height or crop[0], width or crop[1]):
            self._refuse(f"takes {height} x {width}, the crop is {crop[0]} x {crop[1]}")
        if crop[0] is None or crop[1] is None:
            self._refuse("has no height and width of its own; give --crop or --set-shape")
        self._height, self._width = int(crop[0] or 0), int(crop[1] or 0)
        self._pixels = pixels.get(self.name)
        try:
            mean, std = how.per_channel(channels or 0)
        except ValueError as error:
            self._refuse(str(error))
        else:
            self._mean, self._std = np.array(mean, np.float32), np.array(std, np.float32)

    def read(self, path: Path) -> np.ndarray:
        """The values of a picture, float32 with a batch of one."""
        from PIL import Image

        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)
            try:
                with Image.open(path) as image:
                    if image.mode.startswith(_DEEP):
                        raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
                    picture = self._cut(image.convert(self._mode))
            except _PROBLEMS:
                raise
            except Exception as error:  # decoders raise anything for files that are damaged
                raise ValueError(str(error)) from error
        pixels = np.asarray(picture, np.float32)
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if self._pixels is None:
            pixels = pixels[:, :, ::-1] if self.how.bgr else pixels
            scale = 1.0 if self.how.scale is None else self.how.scale
            pixels = ((pixels * np.float32(scale) - self._mean) / self._std).astype(np.float32)
        values = (pixels if self._last else pixels.transpose(2, 0, 1))[None]
        if self._pixels is not None:
            values = self._pixels.fed(self.name, values)
        return np.ascontiguousarray(values)

    def _cut(self, picture: Image.Image) -> Image.Image:
        from PIL import Image

        size = self.how.resize
        if size is not None and len(size) == 2:
            across, down = size[1], size[0]
        else:  # keep the picture's proportions
            if size is not None:
                factor = size[0] / min(picture.size)
            else:
                factor = max(self._width / picture.width, self._height / picture.height)
                factor /= self._share
            across = max(1, round(picture.width * factor))
            down = max(1, round(picture.height * factor))
            if size is None:
                across, down = max(across, self._width), max(down, self._height)
        if across < self._width or down < self._height:
            raise ValueError(
                f"resized to {down} x {across} it is smaller than {self._height} x {self._width}"
            )
        if max(across, down) > _LARGEST_SIDE:
            raise ValueError(f"its sides, {picture.height} x {picture.width}, are too unequal")
        picture = picture.resize((across, down), Image.Resampling.BILINEAR)
        left, top = round((across - self._width) / 2), round((down - self._height) / 2)
        return picture.crop((left, top, left + self._width, top + self._height))

    def _only(self, shapes: Mapping[str, Shape | None]) -> tuple[str, Shape]:
        name, shape = next(iter(shapes.items()), ("", None))
        self.name = name
        if len(shapes) != 1:
            self._refuse(f"is one of {len(shapes)}, and each would need values of its own")
        if shape is None or len(shape) != 4:
            self._refuse("has no batch, channels, height and width")
        assert shape is not None
        return name, shape

    def _refuse(self, why: str) -> None:
        raise UsageError(
            Diagnostic(
                "DLA333",
                "image-input",
                f"graph input {self.name!r} {why}",
                location=self._place,
                help="give the samples as an .npz, with an array for each graph input",
            )
        )


_PROBLEMS = (OSError, ValueError, SyntaxError, EOFError, MemoryError, ArithmeticError, Warning)
"""What Pillow raises for damaged files."""
_LARGEST_SIDE = 1 << 14


def _pair(size: tuple[int, ...] | None) -> tuple[int | None, int | None] | None:
    return None if size is None else (size[0], size[-1])


def _reason(error: BaseException) -> str:
    text = str(error).split("\n")[0]
    if type(error).__name__ == "UnidentifiedImageError":
        return "no picture"
    return text or type(error).__name__

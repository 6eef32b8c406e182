"""From a file to pixels with their range, geometry and facts. Numpy only, no torch."""

from tabib.images.glance import MARK_PLACES, THUMBNAIL_SIDE, glance, glance_at_file
from tabib.images.heat import heat_colours, lay_heat
from tabib.images.identify import IDENTIFIERS, NO_DICOM, NO_PICTURE, DicomHeader, identify_dicom
from tabib.images.image import MAX_BYTES, MAX_PIXELS, Image, ImageFacts, has_colour, printable, shown_name, spread, to_grey
from tabib.images.read import count_frames, name_and_frame, read_file, read_image, read_image_bytes
from tabib.images.resize import Fit, resize
from tabib.images.write import encode_jpeg, encode_png, to_eight_bit

__all__ = [
    "IDENTIFIERS",
    "MARK_PLACES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "NO_DICOM",
    "NO_PICTURE",
    "THUMBNAIL_SIDE",
    "DicomHeader",
    "Fit",
    "Image",
    "ImageFacts",
    "count_frames",
    "encode_jpeg",
    "encode_png",
    "glance",
    "glance_at_file",
    "has_colour",
    "heat_colours",
    "identify_dicom",
    "lay_heat",
    "name_and_frame",
    "printable",
    "read_file",
    "read_image",
    "read_image_bytes",
    "resize",
    "shown_name",
    "spread",
    "to_eight_bit",
    "to_grey",
]

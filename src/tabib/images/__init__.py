"""From a file to pixels with their range, geometry and facts. Numpy only, no torch."""

from tabib.images.channels import read_channels
from tabib.images.content import content_box
from tabib.images.contours import FIRST_CENTRE, fill_contour, read_contour
from tabib.images.glance import MARK_PLACES, THUMBNAIL_SIDE, glance, glance_at_file
from tabib.images.heat import heat_colours, lay_heat
from tabib.images.identify import IDENTIFIERS, NO_DICOM, NO_PICTURE, DicomHeader, identify_dicom
from tabib.images.image import MAX_BYTES, MAX_PIXELS, Image, ImageFacts, has_colour, printable, shown_name, spread, to_grey
from tabib.images.levels import strides_of
from tabib.images.overlay import OUTLINES, box_around, drawn_size, outline, overlay
from tabib.images.read import count_frames, name_and_frame, read_file, read_image, read_image_bytes
from tabib.images.read_volume import as_labels, read_mask, read_stack, read_volume
from tabib.images.regions import fill_holes, keep_largest
from tabib.images.resample import resample, resample_labels
from tabib.images.resize import Fit, resize
from tabib.images.scratch import compact, scratch, slice_by_slice
from tabib.images.segmentation_object import SegmentationHeader, encode_dicom_seg, identify_segmentation, read_dicom_seg
from tabib.images.series import Fault, Series, Slice, find_series, read_series
from tabib.images.volume import (
    MAX_VOXELS,
    Spacing,
    Volume,
    affine_of_cut,
    affine_of_resize,
    apart_mm,
    check_values,
    cut,
    laid_on,
    shown_sides,
    spacing_of,
)
from tabib.images.write import encode_jpeg, encode_label_map, encode_nifti, encode_png, nifti_pieces, nifti_pieces_like, to_eight_bit

__all__ = [
    "FIRST_CENTRE",
    "IDENTIFIERS",
    "MARK_PLACES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_VOXELS",
    "NO_DICOM",
    "NO_PICTURE",
    "OUTLINES",
    "THUMBNAIL_SIDE",
    "DicomHeader",
    "Fault",
    "Fit",
    "Image",
    "ImageFacts",
    "SegmentationHeader",
    "Series",
    "Slice",
    "Spacing",
    "Volume",
    "affine_of_cut",
    "affine_of_resize",
    "apart_mm",
    "as_labels",
    "box_around",
    "check_values",
    "compact",
    "content_box",
    "count_frames",
    "cut",
    "drawn_size",
    "encode_dicom_seg",
    "encode_jpeg",
    "encode_label_map",
    "encode_nifti",
    "encode_png",
    "fill_contour",
    "fill_holes",
    "find_series",
    "glance",
    "glance_at_file",
    "has_colour",
    "heat_colours",
    "identify_dicom",
    "identify_segmentation",
    "keep_largest",
    "laid_on",
    "lay_heat",
    "name_and_frame",
    "nifti_pieces",
    "nifti_pieces_like",
    "outline",
    "overlay",
    "printable",
    "read_channels",
    "read_contour",
    "read_dicom_seg",
    "read_file",
    "read_image",
    "read_image_bytes",
    "read_mask",
    "read_series",
    "read_stack",
    "read_volume",
    "resample",
    "resample_labels",
    "resize",
    "scratch",
    "shown_name",
    "shown_sides",
    "slice_by_slice",
    "spacing_of",
    "spread",
    "strides_of",
    "to_eight_bit",
    "to_grey",
]

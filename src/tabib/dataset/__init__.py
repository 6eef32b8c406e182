"""From a folder to rows: what is there, what is wrong with it, and who trains, chooses and judges."""

from tabib.dataset.archives import OpenedData, open_data
from tabib.dataset.cache import Cache, CacheEntry, build_cache, clear_cache, kept_array, list_cache
from tabib.dataset.cases import GEOMETRY, CaseCache, Grid, build_cases, prepare, prepared_shape, prepared_shapes, seen_box
from tabib.dataset.duplicates import NearCopies, find_near_copies
from tabib.dataset.groups import patients_by, patients_known, propose_group_pattern
from tabib.dataset.guess import guess_masks, numbers_in_masks
from tabib.dataset.hashes import hamming, perceptual_hash
from tabib.dataset.index import index_folder, lost_images, read_row_pixels
from tabib.dataset.inspection import inspect_dataset
from tabib.dataset.labels import as_class, rename_labels, without
from tabib.dataset.layouts import list_folder
from tabib.dataset.listing import NO_IMAGES, Listed, given_parts, junk
from tabib.dataset.mask_layouts import MASK_LAYOUTS
from tabib.dataset.masks import Case, MaskFacts, case_of, read_case, read_predicted, slice_image, telling_slice
from tabib.dataset.nnunet import CHANNEL, channel_names, files_of_image
from tabib.dataset.pixels import STATISTICS, enough_side, fit_image, intensity_statistics
from tabib.dataset.positive import guess_positive, positive_class
from tabib.dataset.splits import LEFT_OUT, read_split_csv, split_dataset
from tabib.dataset.stacks import find_stack, together

__all__ = [
    "CHANNEL",
    "GEOMETRY",
    "LEFT_OUT",
    "MASK_LAYOUTS",
    "NO_IMAGES",
    "STATISTICS",
    "Cache",
    "CacheEntry",
    "Case",
    "CaseCache",
    "Grid",
    "Listed",
    "MaskFacts",
    "NearCopies",
    "OpenedData",
    "as_class",
    "build_cache",
    "build_cases",
    "case_of",
    "channel_names",
    "clear_cache",
    "enough_side",
    "files_of_image",
    "find_near_copies",
    "find_stack",
    "fit_image",
    "given_parts",
    "guess_masks",
    "guess_positive",
    "hamming",
    "index_folder",
    "inspect_dataset",
    "intensity_statistics",
    "junk",
    "kept_array",
    "list_cache",
    "list_folder",
    "lost_images",
    "numbers_in_masks",
    "open_data",
    "patients_by",
    "patients_known",
    "perceptual_hash",
    "positive_class",
    "prepare",
    "prepared_shape",
    "prepared_shapes",
    "propose_group_pattern",
    "read_case",
    "read_predicted",
    "read_row_pixels",
    "read_split_csv",
    "rename_labels",
    "seen_box",
    "slice_image",
    "split_dataset",
    "telling_slice",
    "together",
    "without",
]

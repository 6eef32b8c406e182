"""From weights and an image to an answer."""

from tabib.prediction.external import features_of, predict_external
from tabib.prediction.folder import predict_paths
from tabib.prediction.index import predict_index
from tabib.prediction.masks import entropy_of, images_of, predict_external_masks, predict_masks, read_for, segment_paths, write_mask
from tabib.prediction.predictor import Predictor, prepare
from tabib.prediction.segmenter import Segmenter

__all__ = [
    "Predictor",
    "Segmenter",
    "entropy_of",
    "features_of",
    "images_of",
    "predict_external",
    "predict_external_masks",
    "predict_index",
    "predict_masks",
    "predict_paths",
    "prepare",
    "read_for",
    "segment_paths",
    "write_mask",
]

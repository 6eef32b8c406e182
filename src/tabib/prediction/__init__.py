"""From weights and an image to an answer."""

from tabib.prediction.external import features_of, predict_external
from tabib.prediction.folder import predict_paths
from tabib.prediction.gathered import gather
from tabib.prediction.index import predict_index
from tabib.prediction.masks import entropy_of, predict_external_masks, predict_masks, segment_paths, write_mask
from tabib.prediction.predictor import Predictor, prepare
from tabib.prediction.segmenter import Segmenter

__all__ = [
    "Predictor",
    "Segmenter",
    "entropy_of",
    "features_of",
    "gather",
    "predict_external",
    "predict_external_masks",
    "predict_index",
    "predict_masks",
    "predict_paths",
    "prepare",
    "segment_paths",
    "write_mask",
]

"""From weights and an image to an answer."""

from tabib.prediction.external import features_of, predict_external
from tabib.prediction.folder import predict_paths
from tabib.prediction.index import predict_index
from tabib.prediction.predictor import Predictor, prepare

__all__ = ["Predictor", "features_of", "predict_external", "predict_index", "predict_paths", "prepare"]

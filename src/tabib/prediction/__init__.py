"""From weights and an image to an answer."""

from tabib.prediction.folder import predict_paths
from tabib.prediction.index import predict_index
from tabib.prediction.predictor import Predictor, prepare

__all__ = ["Predictor", "predict_index", "predict_paths", "prepare"]

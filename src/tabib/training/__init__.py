"""From rows to weights, and from weights to a decision."""

from tabib.training.calibrate import calibrate
from tabib.training.classify import train
from tabib.training.doctor import check_training
from tabib.training.resolve import resolve_study
from tabib.training.summary import summarise_network

__all__ = ["calibrate", "check_training", "resolve_study", "summarise_network", "train"]

"""From rows to weights, and from weights to a decision."""

from tabib.training.board import draw_checks
from tabib.training.calibrate import calibrate
from tabib.training.classify import check_layers, class_names, train
from tabib.training.doctor import check_settings, check_training
from tabib.training.loop import Pruned, Watch
from tabib.training.members import plans
from tabib.training.overfit import overfit_few
from tabib.training.own import name_own
from tabib.training.pace import AT_ONCE, choose_pace, paced
from tabib.training.resolve import faster_precision, resolve_study, time_step
from tabib.training.segment import train_segmenter
from tabib.training.segment_calibrate import calibrate_masks
from tabib.training.segment_check import check_segmentation
from tabib.training.segment_resolve import MaskTimes, resolve_input, resolve_segmentation, time_masks
from tabib.training.summary import summarise_network, summarise_segmenter
from tabib.training.sweep import sweep_rates, with_rate
from tabib.training.weights import packaged_network
from tabib.training.windows import count_windows

__all__ = [
    "AT_ONCE",
    "MaskTimes",
    "Pruned",
    "Watch",
    "calibrate",
    "calibrate_masks",
    "check_layers",
    "check_segmentation",
    "check_settings",
    "check_training",
    "choose_pace",
    "class_names",
    "count_windows",
    "draw_checks",
    "faster_precision",
    "name_own",
    "overfit_few",
    "paced",
    "packaged_network",
    "plans",
    "resolve_input",
    "resolve_segmentation",
    "resolve_study",
    "summarise_network",
    "summarise_segmenter",
    "sweep_rates",
    "time_masks",
    "time_step",
    "train",
    "train_segmenter",
    "with_rate",
]

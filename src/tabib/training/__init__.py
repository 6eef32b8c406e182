"""From rows to weights."""

from tabib.training.freezing import Counts, freeze, set_inference, set_training
from tabib.training.networks import NETWORKS, Network, build_network

__all__ = ["NETWORKS", "Counts", "Network", "build_network", "freeze", "set_inference", "set_training"]

"""How weights start that no file gives."""

from __future__ import annotations

from typing import Literal

from torch import nn

__all__ = ["initialise"]


def initialise(module: nn.Module, rule: Literal["glorot", "he", "zeros", "ones"]) -> None:
    """Draw the weights of every convolution and dense layer anew; their biases become zero, and norms stay as they are.

    Args:
        module: changed.
        rule: `glorot` draws uniformly from +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010), `he` normally with standard
            deviation sqrt(2 / inputs) (He et al. 2015), `zeros` and `ones` draw nothing.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            if rule == "glorot":
                nn.init.xavier_uniform_(layer.weight)
            elif rule == "he":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            else:
                nn.init.constant_(layer.weight, 0.0 if rule == "zeros" else 1.0)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

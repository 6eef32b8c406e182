"""Grad-CAM: which places of its last map a network's score of a class hangs on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tabib.explanation.layers import as_maps, listening
from tabib.training.freezing import set_inference
from tabib.training.losses import class_logits
from tabib.training.networks import Network

__all__ = ["class_scores", "gradcam", "to_size"]


def gradcam(network: Network, images: Tensor, classes: Tensor, *, layer: str, several: bool = False) -> Tensor:
    """Where the maps of a layer speak for a class, image by image.

    The maps are added up, each weighted by the mean of the score's gradient over its places, and what speaks against the class is cut
    off (Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", 2017).

    Args:
        network: in any mode; answers in inference mode.
        images: (B, C, H, W), normalised.
        classes: (B,) int64, the class that each image is asked about.
        layer: name of a layer of the backbone with maps, as `last_map` finds it.
        several: whether these are labels, whose scores are their own logits.

    Returns:
        (B, h, w) float32 on the CPU, at the size of the layer's maps, from 0 to 1, where 1 is the highest of the image; all 0 where
        nothing speaks for the class.
    """
    set_inference(network)
    seen: list[Tensor] = []

    def hear(_place: int, output: Tensor) -> Tensor:
        # From here on the pass is made anew for the gradient, which saves the one through the layers before.
        seen.append(output.detach().requires_grad_())
        return seen[-1].clone()  # what follows may work in place

    with torch.enable_grad(), listening([network.features.get_submodule(layer)], hear):
        logits = network(images)
        scores = logits.float() if several else class_scores(logits)
        (gradient,) = torch.autograd.grad(scores.gather(1, classes[:, None].to(scores.device)).sum(), seen[-1])
    maps, slopes = (as_maps(each, images, network) for each in (seen[-1].detach(), gradient))
    assert maps is not None
    assert slopes is not None
    heat = (maps * slopes.mean((2, 3), keepdim=True)).sum(1).relu().float()
    return _to_one(heat).cpu()


def class_scores(logits: Tensor) -> Tensor:
    """What speaks for each class, (B, C): the logit, and with two classes the log-odds, which one or two outputs give alike."""
    logits = class_logits(logits)
    return logits - logits.flip(1) if logits.shape[1] == 2 else logits


def to_size(members: Sequence[Tensor], height: int, width: int) -> np.ndarray:
    """The mean over members of their maps (B, h, w), brought to the size of the images: (B, height, width) float32 in 0..1."""
    mean = _to_one(torch.stack(list(members)).mean(0))
    return functional.interpolate(mean[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0].clamp(0, 1).numpy()


def _to_one(heat: Tensor) -> Tensor:
    highest = heat.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, heat / highest.clamp(min=torch.finfo(heat.dtype).tiny), 0.0)

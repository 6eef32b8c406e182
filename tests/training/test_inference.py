"""The one forward pass, and what the head is given in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tabib.config import ModelPart
from tabib.training.batches import Samples
from tabib.training.inference import INFERENCE_BATCH, log_probabilities, pooled_features
from tabib.training.losses import class_logits
from tabib.training.networks import build_network


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_makes_the_answer_of_the_pooled_features(classes: int) -> None:
    count = INFERENCE_BATCH + 3
    random = torch.Generator().manual_seed(1)
    samples = Samples(
        images=torch.randint(0, 256, (count, 1, 20, 20), dtype=torch.uint8, generator=random),
        positions=torch.arange(count).flip(0),
        statistics=torch.zeros(count, 6),
        content=np.arange(count, dtype=np.uint64),
        labels=torch.zeros(count, dtype=torch.int64),
        device=torch.device("cpu"),
    )
    network = build_network(ModelPart(network="tiny", dropout=[0.5]), classes=classes, channels=1, height=20, width=20).train()
    features = pooled_features(network, samples, intensity="unit")
    assert features.shape == (count, 8)
    assert features.dtype == np.float32
    with torch.no_grad():
        logits = network.head(torch.from_numpy(features))
    said = log_probabilities(network, samples, intensity="unit")
    np.testing.assert_allclose(class_logits(logits).log_softmax(1).numpy(), said, rtol=0, atol=1e-6)

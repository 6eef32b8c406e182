"""Losses against PyTorch's own, and against what is known of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from tabib.training.losses import balanced_weights, class_logits, constant_loss, cross_entropy, uniform_loss

LABELS = torch.tensor([0, 0, 0, 1])


def test_one_logit_is_binary_cross_entropy() -> None:
    logits = torch.tensor([[-2.0], [0.3], [30.0], [-40.0]])
    ours = cross_entropy(logits, LABELS, weights=None, smoothing=0)
    theirs = functional.binary_cross_entropy_with_logits(logits[:, 0], LABELS.float())
    torch.testing.assert_close(ours, theirs)


def test_weights_of_one_logit_are_those_of_its_class() -> None:
    logits, weights = torch.randn(4, 1), torch.tensor([0.5, 3.0])
    ours = cross_entropy(logits, LABELS, weights=weights, smoothing=0)
    each = functional.binary_cross_entropy_with_logits(logits[:, 0], LABELS.float(), reduction="none")
    torch.testing.assert_close(ours, (weights[LABELS] * each).sum() / weights[LABELS].sum())


def test_half_precision_is_brought_to_full() -> None:
    logits = torch.randn(4, 3, dtype=torch.bfloat16)
    assert class_logits(logits).dtype == cross_entropy(logits, LABELS, weights=None, smoothing=0.1).dtype == torch.float32


def test_balanced_weights_make_classes_count_alike() -> None:
    weights = balanced_weights(LABELS, 2)
    torch.testing.assert_close(torch.bincount(LABELS) * weights, torch.tensor([2.0, 2.0]))
    assert balanced_weights(LABELS, 3).isfinite().all()


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_an_untrained_network_has_the_logarithm_of_the_classes(classes: int) -> None:
    labels = torch.arange(50) % classes
    assert uniform_loss(labels, classes, weights=None, smoothing=0) == pytest.approx(math.log(classes))
    assert uniform_loss(LABELS, classes, weights=balanced_weights(LABELS, classes), smoothing=0) == pytest.approx(math.log(classes))


def test_a_constant_answer_has_the_entropy_of_the_classes() -> None:
    assert constant_loss(LABELS, 2, weights=None, smoothing=0) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert constant_loss(LABELS, 2, weights=balanced_weights(LABELS, 2), smoothing=0) == pytest.approx(math.log(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.4, 2.0, 1.0])])
def test_no_constant_answer_is_better(smoothing: float, weights: torch.Tensor | None) -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = cross_entropy(logits.expand(6, 3), labels, weights=weights, smoothing=smoothing)
        value.backward()
        return value

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    assert constant_loss(labels, 3, weights=weights, smoothing=smoothing) == pytest.approx(float(loss().detach()), abs=1e-5)

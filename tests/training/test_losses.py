"""Losses against PyTorch's own, and against what is known of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from tabib.training.losses import LabelLoss, Loss, balanced_weights, class_logits, label_logits

LABELS = torch.tensor([0, 0, 0, 1])


def test_one_logit_is_binary_cross_entropy() -> None:
    logits = torch.tensor([[-2.0], [0.3], [30.0], [-40.0]])
    ours = Loss()(logits, LABELS)
    theirs = functional.binary_cross_entropy_with_logits(logits[:, 0], LABELS.float())
    torch.testing.assert_close(ours, theirs)


def test_weights_of_one_logit_are_those_of_its_class() -> None:
    logits, weights = torch.randn(4, 1), torch.tensor([0.5, 3.0])
    ours = Loss(weights)(logits, LABELS)
    each = functional.binary_cross_entropy_with_logits(logits[:, 0], LABELS.float(), reduction="none")
    torch.testing.assert_close(ours, (weights[LABELS] * each).sum() / weights[LABELS].sum())


def test_half_precision_is_brought_to_full() -> None:
    logits = torch.randn(4, 3, dtype=torch.bfloat16)
    assert class_logits(logits).dtype == Loss(smoothing=0.1)(logits, LABELS).dtype == Loss(gamma=2)(logits, LABELS).dtype == torch.float32


def test_balanced_weights_make_classes_count_alike() -> None:
    weights = balanced_weights(LABELS, 2)
    torch.testing.assert_close(torch.bincount(LABELS) * weights, torch.tensor([2.0, 2.0]))
    assert balanced_weights(LABELS, 3).isfinite().all()


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_an_untrained_network_has_the_logarithm_of_the_classes(classes: int) -> None:
    labels = torch.arange(50) % classes
    assert Loss().uniform(labels, classes) == pytest.approx(math.log(classes))
    assert Loss(balanced_weights(LABELS, classes)).uniform(LABELS, classes) == pytest.approx(math.log(classes))


def test_focal_loss_of_two_classes_is_torchvisions() -> None:
    logits = torch.tensor([[-2.0], [0.3], [3.0], [-4.0]])
    theirs = sigmoid_focal_loss(logits[:, 0], LABELS.float(), alpha=-1, gamma=1.5, reduction="mean")
    torch.testing.assert_close(Loss(gamma=1.5)(logits, LABELS), theirs)
    both = torch.cat([torch.full_like(logits, 0.7), logits + 0.7], dim=1)
    torch.testing.assert_close(Loss(gamma=1.5)(both, LABELS), theirs)


def test_focal_loss_by_hand() -> None:
    """Probabilities 1/2, 1/4 and 1/4: (1 - 1/4)^2 ln 4 for the second class; with weights 1 and 3, the mean of both over 4."""
    logits = torch.tensor([[2.0, 1.0, 1.0]]).log().expand(2, 3)
    first, second = 0.5**2 * math.log(2), 0.75**2 * math.log(4)
    assert float(Loss(gamma=2)(logits, torch.tensor([0, 1]))) == pytest.approx((first + second) / 2)
    weighted = Loss(torch.tensor([1.0, 3.0, 9.0]), gamma=2)(logits, torch.tensor([0, 1]))
    assert float(weighted) == pytest.approx((first + 3 * second) / 4)
    assert Loss(gamma=2).uniform(torch.tensor([0, 1]), 3) == pytest.approx((2 / 3) ** 2 * math.log(3))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_sure_answers_have_a_gradient(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    Loss(gamma=gamma)(logits, torch.tensor([0, 0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().min() > 0.1


def test_a_mean_over_parts_is_the_mean() -> None:
    """What lets a step be made in several batches."""
    logits, labels = torch.randn(10, 3), torch.arange(10) % 3
    for rule in (Loss(), Loss(torch.tensor([0.2, 1.0, 5.0]), 0.1), Loss(torch.tensor([0.2, 1.0, 5.0]), gamma=2)):
        parts = [rule(logits[part], labels[part]) * rule.mass(labels[part]) for part in (slice(0, 4), slice(4, 10))]
        torch.testing.assert_close(sum(parts) / rule.mass(labels), rule(logits, labels))


def test_a_constant_answer_has_the_entropy_of_the_classes() -> None:
    assert Loss().constant(LABELS, 2) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert Loss(balanced_weights(LABELS, 2)).constant(LABELS, 2) == pytest.approx(math.log(2))


@pytest.mark.parametrize(("smoothing", "gamma"), [(0.0, 0.0), (0.2, 0.0), (0.0, 2.0), (0.0, 0.5)])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.4, 2.0, 1.0])], ids=["alike", "weighted"])
def test_no_constant_answer_is_better(smoothing: float, gamma: float, weights: torch.Tensor | None) -> None:
    rule = Loss(weights, smoothing, gamma)
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = rule(logits.expand(6, 3), labels)
        value.backward()
        return value

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    assert rule.constant(labels, 3) == pytest.approx(float(loss().detach()), abs=1e-5)


SEVERAL = torch.tensor([[0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0]])
EACH = torch.stack([balanced_weights(labels, 2) for labels in SEVERAL.T])


def test_the_loss_of_several_labels_is_binary_cross_entropy() -> None:
    logits = torch.randn(4, 3)
    torch.testing.assert_close(LabelLoss()(logits, SEVERAL), torch.nn.BCEWithLogitsLoss()(logits, SEVERAL.float()))
    torch.testing.assert_close(LabelLoss()(label_logits(logits).log_softmax(2), SEVERAL), LabelLoss()(logits, SEVERAL))
    focal = sigmoid_focal_loss(logits, SEVERAL.float(), alpha=-1, gamma=1.5, reduction="mean")
    torch.testing.assert_close(LabelLoss(gamma=1.5)(logits, SEVERAL), focal)
    smoothed = torch.nn.BCEWithLogitsLoss()(logits, 0.9 * SEVERAL + 0.05)
    torch.testing.assert_close(LabelLoss(smoothing=0.1)(logits, SEVERAL), smoothed)


def test_balanced_labels_weigh_present_against_absent_as_a_positive_weight_does() -> None:
    logits = torch.randn(4, 3)
    ratio = (SEVERAL == 0).sum(0) / SEVERAL.sum(0)
    torch.testing.assert_close(EACH[:, 1] / EACH[:, 0], ratio)
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=ratio, reduction="none")(logits, SEVERAL.float())
    torch.testing.assert_close(LabelLoss(EACH)(logits, SEVERAL), (theirs * EACH[:, 0]).sum() / EACH[torch.arange(3), SEVERAL].sum())


@pytest.mark.parametrize(("smoothing", "gamma"), [(0.0, 0.0), (0.2, 0.0), (0.0, 2.0)])
@pytest.mark.parametrize("weights", [None, EACH], ids=["alike", "weighted"])
def test_several_labels_are_as_many_studies_of_two_classes(smoothing: float, gamma: float, weights: torch.Tensor | None) -> None:
    """Where every label weighs the same, the whole is the mean of each by itself; and so of the best constant answer."""
    rule, logits = LabelLoss(weights, smoothing, gamma), torch.randn(4, 3)
    alone = [Loss(None if weights is None else weights[place], smoothing, gamma) for place in range(3)]
    each = [one(logits[:, place : place + 1], SEVERAL[:, place]) for place, one in enumerate(alone)]
    torch.testing.assert_close(rule(logits, SEVERAL), torch.stack(each).mean())
    constants = [one.constant(SEVERAL[:, place], 2) for place, one in enumerate(alone)]
    assert rule.constant(SEVERAL, 3) == pytest.approx(sum(constants) / 3)
    parts = [rule(logits[part], SEVERAL[part]) * rule.mass(SEVERAL[part]) for part in (slice(0, 3), slice(3, 4))]
    torch.testing.assert_close(sum(parts) / rule.mass(SEVERAL), rule(logits, SEVERAL))


def test_an_untrained_network_of_labels_has_ln_2() -> None:
    for rule in (LabelLoss(), LabelLoss(EACH), LabelLoss(smoothing=0.1)):
        assert rule.uniform(SEVERAL, 3) == pytest.approx(math.log(2))
    assert LabelLoss(gamma=2).uniform(SEVERAL, 3) == pytest.approx(0.25 * math.log(2))

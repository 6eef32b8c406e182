"""The class that is looked for."""

from __future__ import annotations

import pytest

from tabib.dataset import guess_positive, positive_class
from tabib.errors import StudyError


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (["NORMAL", "PNEUMONIA"], "PNEUMONIA"),
        (["covid", "healthy"], "covid"),
        (["blast", "not_blast"], "blast"),
        (["malignant", "benign"], "malignant"),
        (["tumour", "no tumour"], "tumour"),
        (["0", "1"], "1"),
        (["abnormal", "normal"], "abnormal"),
        (["HIV_negative", "HIV_positive"], "HIV_positive"),
        (["Parasitized", "Uninfected"], "Parasitized"),
        (["سالم", "بیمار"], "بیمار"),
        (["سالم", "ناسالم"], "ناسالم"),
        (["طبیعی", "غیر طبیعی"], "غیر طبیعی"),
        (["بدون تومور", "تومور"], "تومور"),
        (["not normal", "normal"], "not normal"),
        (["a", "b", "c"], None),
    ],
)
def test_the_positive_class_is_the_one_not_named_like_health(classes: list[str], positive: str | None) -> None:
    assert positive_class(None, classes) == positive


@pytest.mark.parametrize(
    ("given", "classes", "words"), [("PNEUMONIE", ["NORMAL", "PNEUMONIA"], "did you mean 'PNEUMONIA'"), ("a", list("abc"), "needs two")]
)
def test_a_positive_class_that_cannot_be(given: str, classes: list[str], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        positive_class(given, classes)


@pytest.mark.parametrize("classes", [["AD", "MCI"], ["benign", "normal"], ["nodule", "uncertain"]])
def test_two_classes_of_which_none_is_named_like_health_are_asked_about(classes: list[str]) -> None:
    with pytest.raises(StudyError, match=r"Which class is looked for.*positive: "):
        positive_class(None, classes)
    assert guess_positive(classes) is None

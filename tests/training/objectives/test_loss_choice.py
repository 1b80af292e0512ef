"""Losses as settings: what they refuse, and that JSON brings them back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graphseq.training.objectives.loss_choice import (
    LOSSES,
    CrossEntropy,
    SampledLoss,
    as_loss,
    loss_settings,
)


@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        "bpr",
        CrossEntropy(label_smoothing=0.1, exposure=0.5),
        SampledLoss("bpr_max", 7, options={"elu": 0.5}, uniform_share=0.2),
        SampledLoss(num_negatives=0, from_index=5, refresh=10, exclude_session=True),
        SampledLoss(hardest=3, shared=False, logq=False, in_batch=True, label_smoothing=0.1),
    ],
)
def test_loss_written_as_json_comes_back(loss: Any) -> None:
    content = json.loads(json.dumps(loss_settings(loss)))
    assert as_loss(content) == as_loss(loss)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_by_name_has_its_default_form(name: str) -> None:
    expected = CrossEntropy() if name == "cross_entropy" else SampledLoss(name)
    assert as_loss(name) == as_loss({"name": name}) == expected


def test_loss_of_a_mapping_without_a_name_is_the_sampled_softmax() -> None:
    assert as_loss({"num_negatives": 9}) == SampledLoss("sampled_softmax", 9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hinge", "loss is one of cross_entropy, sampled_softmax"),
        ({"name": "hinge"}, "loss is one of"),
        ({"name": "cross_entropy", "alpha": 1}, "'cross_entropy' has no argument 'alpha'; it has"),
        ({"name": "bpr", "negatives": 1}, "'bpr' has no argument 'negatives'; it has name"),
        ({"name": "cross_entropy", "label_smoothing": 2.0}, r"label_smoothing lies in 0\.\.1"),
        ({"label_smoothing": -1.0}, r"label_smoothing lies in 0\.\.1, got -1"),
        ({"name": "bpr", "label_smoothing": 0.1}, "label_smoothing is of sampled_softmax alone"),
        ({"uniform_share": 1.1}, r"uniform_share lies in 0\.\.1, got 1\.1"),
        ({"hardest": 0}, "hardest must be at least 1, got 0: None keeps all"),
        ({"from_index": -1}, "from_index must not be negative"),
        ({"from_index": 1, "refresh": 0}, "refresh must be at least 1"),
        ({"num_negatives": 2.5}, "num_negatives must be a whole number, got 2.5"),
        ({"num_negatives": True}, "num_negatives must be a whole number, got True"),
        ({"alpha": "0.5"}, "alpha must be a finite number, got '0.5'"),
        ({"alpha": -1}, "alpha must not be negative, got -1"),
        ({"in_batch": "no"}, "in_batch must be true or false, got 'no'"),
        ({"logq": 1}, "logq must be true or false, got 1: None corrects the softmax alone"),
        ({"name": "gbce", "options": {"t": 2}}, r"t of 'gbce' lies in 0\.\.1, got 2"),
        ({"name": "bpr", "options": {"t": 1}}, "options of 'bpr' are a mapping with nothing in it"),
        ({"name": "gbce", "options": [1]}, "options of 'gbce' are a mapping with t and num_items"),
        ({"index": ["exact"]}, "index is one of exact"),
        ({"name": ["bpr"]}, "loss is one of"),
        (7, "loss is one of cross_entropy, .*, a CrossEntropy or a SampledLoss, got 7"),
        ("bprmax", "did you mean 'bpr_max'"),
        ({"num_negative": 3}, "did you mean 'num_negatives'"),
        ({"hardest": 3, "logq": True}, "hard ones .* have none: use logq=None"),
        ({"from_index": 3, "logq": True}, "hard ones .* have none: use logq=None"),
        ({"hardest": 3, "mask_collisions": False}, "leave it True with hardest"),
        ({"exclude_session": True, "mask_collisions": False}, "leave it True with hardest"),
    ],
)
def test_wrong_loss_is_refused(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_loss(content)


def test_hard_negatives_are_not_corrected() -> None:
    assert SampledLoss().corrects
    assert not SampledLoss(hardest=3).corrects
    assert not SampledLoss(from_index=3).corrects

"""Every regularizer on labelled and unlabelled documents."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_advdrop import (
    AdversarialDropoutCallback,
    AdversarialTrainingCallback,
    RandomPerturbationCallback,
    RDropCallback,
    TextClassificationTask,
    VirtualAdversarialCallback,
)
from lightning_advdrop.callbacks import RegularizerCallback
from lightning_advdrop.masking import Perturbation
from lightning_advdrop.regularizers import PerturbationRegularizer, Regularizer
from tests.helpers.documents import PADDING, Documents
from tests.helpers.family import CALLBACKS
from tests.helpers.text_tasks import SIZES, fit_steps


def trained(callback: Any, steps: int = 2, bidirectional: bool = False, **data: Any) -> tuple[Any, Any]:
    L.seed_everything(5, verbose=False)
    task = TextClassificationTask(**SIZES, bidirectional=bidirectional)
    return task, fit_steps(task, Documents(**data), steps, callbacks=[callback])


def every_callback() -> list[RegularizerCallback]:
    """Each with its own defaults, at a site of a kind that it works at."""
    made: dict[type[Regularizer], Any] = dict(CALLBACKS)
    return [
        make(sites="embedding" if issubclass(regularizer, PerturbationRegularizer) else "recurrent")
        for regularizer, make in made.items()
    ]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("callback", every_callback(), ids=lambda callback: type(callback).__name__)
def test_it_trains_on_labelled_and_unlabelled_documents(callback: RegularizerCallback, bidirectional: bool) -> None:
    task, trainer = trained(callback, bidirectional=bidirectional)
    assert trainer.global_step == 2
    assert all(p.isfinite().all() for p in task.parameters())
    penalty, divergence = (
        float(trainer.callback_metrics[name]) for name in ("train/penalty", f"{callback.log_prefix}/divergence")
    )
    assert penalty >= 0 or type(callback).__name__ == "FraternalDropoutCallback"  # half of a difference of losses, too
    assert (divergence > 0) == (type(callback).__name__ != "VariationalDropoutCallback")


@pytest.mark.parametrize("kind", ["input", "output", "weight", "dropout", "embedding"])
def test_adversarial_dropout_elsewhere(kind: str) -> None:
    _, trainer = trained(AdversarialDropoutCallback(sites=kind, rate=0.2))
    assert trainer.callback_metrics["advdrop/flip_rate"] > 0


def test_adversarial_dropout_as_published() -> None:
    """The embedding's dropout differs between the two passes, so that a start of ones finds something."""
    published: dict[str, Any] = {"search": "gradient", "share_masks": False, "start": "ones", "flips": "drop"}
    callback = AdversarialDropoutCallback(rate=0.2, steps=2, **published)
    found: list[Any] = []
    callback.listeners.append(found.append)
    _, trainer = trained(callback)
    (mask,) = found[0].masks.values()
    assert mask.shape == (32, 16)
    assert (mask == 0).sum(1).max() <= 3
    assert trainer.callback_metrics["advdrop/flip_rate"] > 0


def spied(callback: Any, **kwargs: Any) -> tuple[list[Any], Any]:
    """What a regularizer adds at the embedding in its last pass, and the documents of the pass."""
    shifts: list[Tensor] = []
    run, seen = type(callback.regularizer).penalty, []

    def penalty(passes: Any) -> Any:
        before = passes.recorded.run

        def watch(forward: Any, masks: Any, **more: Any) -> Any:
            shifts[:] = [acting.value.detach() for acting in masks.values() if isinstance(acting, Perturbation)]
            return before(forward, masks, **more)

        passes.recorded.run = watch
        seen.append(passes)
        return run(callback.regularizer, passes)

    callback.regularizer.penalty = penalty
    trained(callback, steps=1, **kwargs)
    return shifts, seen[0]


@pytest.mark.parametrize(
    "callback", [VirtualAdversarialCallback(), RandomPerturbationCallback()], ids=lambda c: type(c).__name__
)
def test_virtual_perturbations_have_their_norm_for_every_document_and_leave_padding_out(callback: Any) -> None:
    (shift,), passes = spied(callback)
    (seen,) = passes.observed.values()
    assert len(shift) == 32
    norms = shift.flatten(1).norm(dim=1)
    found = norms > 0  # a prediction may not change at all at a distance of 0.1, in float32
    torch.testing.assert_close(norms[found], torch.full_like(norms[found], 5.0))
    assert found.sum() > 28
    assert seen.real is not None
    assert not seen.real.all()
    assert shift[~seen.real.squeeze(-1)].eq(0).all()
    assert passes.target[16:].eq(-100).all()


@pytest.mark.parametrize(
    ("make", "settings", "perturbed"),
    [
        (VirtualAdversarialCallback, {"divergence": "kl"}, 32),
        (RandomPerturbationCallback, {"divergence": "kl"}, 32),
        (RandomPerturbationCallback, {"divergence": "ce"}, 32),
        (AdversarialTrainingCallback, {}, 16),
    ],
)
def test_behind_the_embeddings_dropout_real_words_have_the_norm(make: Any, settings: Any, perturbed: int) -> None:
    """As published: what the LSTM reads moves by 5, in every feature, whatever dropout has dropped."""
    (shift,), passes = spied(make(sites="input", epsilon=5.0, **settings))
    ((site, seen),) = passes.observed.items()
    assert site.name == "model.encoder.lstm:input"
    assert seen.activation == shift.shape
    real = passes.real_steps
    assert not real.all()
    assert shift[~real].eq(0).all()
    norms = shift[:perturbed].flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, 5.0))
    assert shift[:perturbed][real[:perturbed]].ne(0).float().mean() > 0.99


def test_before_the_embeddings_dropout_half_of_the_features_get_twice_as_much() -> None:
    """What the LSTM would read of the perturbation: dropped features have no gradient, the others are doubled."""
    (shift,), passes = spied(VirtualAdversarialCallback(epsilon=5.0, divergence="kl"))
    assert [site.kind for site in passes.observed] == ["embedding"]
    assert 0.4 < shift[passes.real_steps].ne(0).float().mean() < 0.6
    norms = (2 * shift).flatten(1).norm(dim=1)  # the embedding's dropout is 0.5
    torch.testing.assert_close(norms[norms > 0], torch.full_like(norms[norms > 0], 10.0))


def test_random_perturbation_can_be_a_supervised_loss() -> None:
    """The unlabelled documents are perturbed, too, but have no loss."""
    found: list[Any] = []
    callback = RandomPerturbationCallback(sites="input", epsilon=1e-4, divergence="ce")
    callback.listeners.append(found.append)
    _, trainer = trained(callback, steps=1)
    torch.testing.assert_close(found[0].value.detach(), trainer.callback_metrics["train/loss"], rtol=1e-4, atol=1e-5)


def test_adversarial_training_perturbs_the_labelled_documents_only() -> None:
    (shift,), _ = spied(AdversarialTrainingCallback())
    torch.testing.assert_close(shift[:16].flatten(1).norm(dim=1), torch.full((16,), 5.0))
    assert shift[16:].eq(0).all()


@pytest.mark.parametrize(
    "callback",
    [AdversarialTrainingCallback(), AdversarialDropoutCallback(divergence="ce", rate=0.2)],
    ids=lambda c: type(c).__name__,
)
def test_unlabelled_documents_do_not_change_what_needs_labels(callback: Any) -> None:
    """Training with them is that without them, but for rounding."""
    ends = []
    for size in (64, 0):
        L.seed_everything(5, verbose=False)
        task = TextClassificationTask(**SIZES, dropout=0.0)
        callback.regularizer.start = "ones"
        fit_steps(task, Documents(unlabelled_size=size), 3, callbacks=[callback])
        ends.append(torch.cat([p.detach().flatten() for p in task.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)


def test_the_second_loss_of_r_drop_is_that_of_labelled_documents() -> None:
    callback = RDropCallback(rate=0.3)
    found: list[Any] = []
    callback.listeners.append(found.append)
    trained(callback, steps=1)
    assert 0.5 < float(found[0].supervised.detach()) < 0.9


def test_padding_is_the_embeddings() -> None:
    task, _ = trained(AdversarialDropoutCallback())
    assert task.model.encoder.embedding.padding_idx == PADDING

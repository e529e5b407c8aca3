"""The divergences in terms of `torch.distributions`, one number for each example, averaged by a plain loop."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, kl_divergence


def prediction(logits: Tensor) -> Distribution:
    """What a tensor of logits stands for: a Bernoulli distribution if there is one logit, else a categorical one."""
    if logits.shape[-1] == 1:
        return Bernoulli(logits=logits.squeeze(-1))
    return Categorical(logits=logits)


def probabilities(logits: Tensor) -> Tensor:
    """``(..., classes)``, or the probability of a one, ``(..., 1)``."""
    found = prediction(logits)
    if isinstance(found, Bernoulli):
        return found.probs.unsqueeze(-1)
    assert isinstance(found, Categorical)
    return found.probs


def each_kl(p: Tensor, q: Tensor) -> Tensor:
    """``KL(p || q)`` of each example."""
    return kl_divergence(prediction(p), prediction(q))


def each_bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """``KL(p || q)`` of each example, the sum over its labels."""
    return sum(
        (kl_divergence(Bernoulli(logits=p[..., i]), Bernoulli(logits=q[..., i])) for i in range(p.shape[-1])),
        start=p.new_zeros(p.shape[:-1]),
    )


def each_mse(p: Tensor, q: Tensor) -> Tensor:
    """The mean squared difference of what each example predicts."""
    return ((p - q) ** 2).mean(-1)


def each_binary_ce(logits: Tensor, target: Tensor) -> Tensor:
    """The negative log-probability of all labels of each example, which may be probabilities."""
    p = logits.sigmoid()
    return -(target * p.log() + (1 - target) * (1 - p).log()).sum(-1)


def each_mse_logits(p: Tensor, q: Tensor) -> Tensor:
    """The mean squared difference of each example's logits."""
    return ((p - q) ** 2).mean(-1)


def each_mse_probs(p: Tensor, q: Tensor) -> Tensor:
    """The mean squared difference of each example's probabilities."""
    return ((probabilities(p) - probabilities(q)) ** 2).mean(-1)


def each_ce(logits: Tensor, target: Tensor) -> Tensor:
    """The negative log-probability of each example's label."""
    found = prediction(logits)
    if isinstance(found, Bernoulli):
        target = target.to(logits.dtype)
    log_prob: Tensor = found.log_prob(target)
    return -log_prob


def mean_of_real(values: Tensor, weight: Tensor) -> Tensor:
    """The mean of the values whose weight is 1; the others are padding."""
    return values[weight == 1].mean()

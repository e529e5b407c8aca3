"""Every regularizer by the formula of its paper, on a small network that takes all that acts in it as arguments.

Written without the package: the recurrence in plain operations, one sequence, one row, one example at a time. Random
masks, noise and labels are drawn in the documented order from a generator with the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from tests.helpers import reference_divergences as each

FEATURES, UNITS = 3, 6


class Network(nn.Module):
    """An embedding or none, dropout, one LSTM or GRU and a linear layer on its last output or on all; in float64.

    Args:
        cell: ``lstm`` or ``gru``.
        classes: the number of logits.
        words: the size of the embedding; 0 for real-valued input.
        sequence: whether there is a prediction at each step.
        layout: ``batch_first``, ``time_first`` or ``packed``; what the recurrent layer reads. The model's own input and
            output have the batch first.
        lengths: of packed sequences, in falling order.
        dropout: the rate of the dropout on what the recurrent layer reads.
    """

    def __init__(
        self,
        cell: str = "lstm",
        classes: int = 3,
        words: int = 0,
        sequence: bool = False,
        layout: str = "batch_first",
        lengths: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.sequence, self.layout, self.lengths = sequence, layout, list(lengths)
        self.embedding = nn.Embedding(words, FEATURES, padding_idx=0) if words else None
        self.drop = nn.Dropout(dropout)
        layer = nn.LSTM if cell == "lstm" else nn.GRU
        self.rnn = layer(FEATURES, UNITS, batch_first=layout != "time_first")
        self.out = nn.Linear(UNITS, classes)
        self.double()
        with torch.no_grad():  # so that what is flipped or added matters
            for parameter in self.parameters():
                parameter.mul_(2)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.embedding is None else self.embedding(x)
        x = self.drop(x) if self.drop.p else x
        if self.layout == "packed":
            _, states = self.rnn(pack_padded_sequence(x, self.lengths, batch_first=True))
            last = states[0] if isinstance(states, tuple) else states
            return self.out(last[-1])  # type: ignore[no-any-return]
        outputs, _ = self.rnn(x.transpose(0, 1) if self.layout == "time_first" else x)
        outputs = outputs.transpose(0, 1) if self.layout == "time_first" else outputs
        return self.out(outputs if self.sequence else outputs[:, -1])  # type: ignore[no-any-return]

    # The same, written out.

    def explicit(
        self, x: Tensor, mask: Tensor | None = None, kind: str = "recurrent", shift: Any = None, noise: Any = None
    ) -> Tensor:
        """The prediction with everything that can act given: masks are multiplied as they are.

        Args:
            x: the input.
            mask: ``(B, H)`` or ``(T, B, H)`` for ``recurrent``, ``(rows, H)`` for ``weight``, ``(B, 1, D)`` for
                ``input``.
            kind: where the mask acts.
            shift: added to what is looked up, or to the input, ``(B, T, D)``.
            noise: what dropout multiplies, ``(B, T, D)``.
        """
        predictions = []
        for b in range(len(x)):
            length = self.lengths[b] if self.lengths else x.shape[1]
            steps = [self._read(x[b, t]) for t in range(length)]
            for t in range(length):
                added = 0 if shift is None else shift[b, t]
                steps[t] = steps[t] + added if kind == "embedding" else steps[t]  # before dropout
                steps[t] = steps[t] if noise is None else steps[t] * noise[b, t]
                steps[t] = steps[t] if kind == "embedding" else steps[t] + added
                steps[t] = steps[t] * mask[b, 0] if kind == "input" and mask is not None else steps[t]
            outputs = self._run(steps, b, mask, kind)
            logits = [self.out.weight @ h + self.out.bias for h in (outputs if self.sequence else outputs[-1:])]
            predictions.append(torch.stack(logits) if self.sequence else logits[0])
        return torch.stack(predictions)

    def _read(self, x: Tensor) -> Tensor:
        if self.embedding is None:
            return x
        row = self.embedding.weight[int(x)]
        return row.detach() if int(x) == 0 else row

    def _run(self, steps: Sequence[Tensor], b: int, mask: Tensor | None, kind: str) -> list[Tensor]:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        w_ih, hidden, b_ih, b_hh = (self.rnn.get_parameter(name) for name in names)
        w_hh = hidden * mask if kind == "weight" and mask is not None else hidden * 1
        h = c = w_hh.new_zeros(UNITS)
        outputs = []
        for t, x in enumerate(steps):
            inside = h
            if kind == "recurrent" and mask is not None:
                inside = h * (mask[t, b] if mask.dim() == 3 else mask[b])
            from_x = w_ih @ x + b_ih
            from_h = w_hh @ inside + b_hh
            if isinstance(self.rnn, nn.LSTM):
                i, f, g, o = (from_x + from_h).chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            else:
                (xr, xz, xn), (hr, hz, hn) = from_x.chunk(3), from_h.chunk(3)
                z, n = (xz + hz).sigmoid(), (xn + (xr + hr).sigmoid() * hn).tanh()
                h = (1 - z) * n + z * h
            outputs.append(h)
        return outputs


class Expected(NamedTuple):
    """What a regularizer should find; ``supervised`` is 0 where there is no second loss."""

    base: Tensor
    value: Tensor
    supervised: Tensor


@dataclass
class Problem:
    """A network, a batch, the regularizer's settings and its source of random numbers."""

    model: Network
    x: Tensor
    settings: dict[str, Any]
    target: Tensor
    weight: Tensor | None = None
    kind: str = "recurrent"
    generator: torch.Generator | None = None
    base_noise: Tensor | None = None
    other_noise: Tensor | None = None
    real_steps: Tensor | None = None

    def base(self, mask: Tensor | None = None) -> Tensor:
        return self.model.explicit(self.x, mask, self.kind, noise=self.base_noise)

    def other(self, mask: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        return self.model.explicit(self.x, mask, self.kind, shift, self.other_noise)

    def mean(self, values: Tensor) -> Tensor:
        """Over examples and steps, weighted."""
        weight = torch.ones_like(values) if self.weight is None else self.weight.double().expand_as(values)
        return (weight * values).sum() / weight.sum()

    def distance(self, base: Tensor, other: Tensor, detach_base: bool | None = None) -> Tensor:
        if self.settings.get("detach_base") if detach_base is None else detach_base:
            base = base.detach()
        if self.settings["divergence"] == "ce":
            return self.loss(other)
        pair = (base, other) if self.settings.get("direction", "base_adv") == "base_adv" else (other, base)
        name = self.settings["divergence"]
        measure: Callable[[Tensor, Tensor], Tensor] = getattr(each, f"each_{'kl' if name == 'auto' else name}")
        return self.mean(measure(*pair))

    def loss(self, logits: Tensor) -> Tensor:
        return self.mean(each.each_ce(logits, self.target))

    def shape(self) -> tuple[int, ...]:
        """Of a mask."""
        if self.kind == "weight":
            return tuple(self.model.rnn.get_parameter("weight_hh_l0").shape)
        if self.kind == "input":
            return (len(self.x), 1, FEATURES)
        steps = (self.x.shape[1],) if self.settings.get("per_step") else ()
        return (*steps, len(self.x), UNITS)

    def mask(self, rate: float) -> Tensor:
        """A random mask, binary."""
        return (torch.rand(self.shape(), generator=self.generator) >= rate).double()

    def noise(self) -> Tensor:
        """Gaussian noise in the order in which the recurrent layer or the embedding has its rows, ``(B, T, D)``."""
        batch, steps = self.x.shape[:2]
        if self.model.layout == "packed":
            places = [(b, t) for t in range(steps) for b in range(batch) if t < self.model.lengths[b]]
            rows = torch.randn(len(places), FEATURES, generator=self.generator).double()
            noise = torch.zeros(batch, steps, FEATURES, dtype=torch.float64)
            for (b, t), row in zip(places, rows, strict=True):
                noise[b, t] = row
            return noise
        if self.model.layout == "time_first" and self.kind == "input":
            return torch.randn(steps, batch, FEATURES, generator=self.generator).double().transpose(0, 1)
        return torch.randn(batch, steps, FEATURES, generator=self.generator).double()

    def unit(self, values: Tensor) -> Tensor:
        """Values without those at padding, each example's over its norm."""
        scaled = torch.zeros_like(values)
        for b in range(len(values)):
            real = [t for t in range(values.shape[1]) if self._is_real(b, t)]
            norm = sum(float((values[b, t] ** 2).sum()) for t in real) ** 0.5
            for t in real:
                scaled[b, t] = values[b, t] / norm if norm > 0 else 0
        return scaled

    def _is_real(self, b: int, t: int) -> bool:
        if self.model.lengths and t >= self.model.lengths[b]:
            return False
        if self.model.embedding is not None and self.kind == "embedding" and self.x[b, t] == 0:
            return False
        if self.real_steps is not None and not self.real_steps[b, t]:
            return False
        return self.weight is None or self.weight.dim() < 2 or bool(self.weight[b, t] != 0)


def scaled(mask: Tensor) -> Tensor:
    """Rows times units over kept units; a row without any stays zero."""
    return mask * (mask.shape[-1] / mask.sum(-1, keepdim=True).clamp_min(1))


def _none(base: Tensor) -> Tensor:
    return torch.zeros((), dtype=base.dtype)


def variational_dropout(p: Problem) -> Expected:
    base = p.base(scaled(p.mask(p.settings["rate"])))
    return Expected(base, _none(base), _none(base))


def fraternal_dropout(p: Problem) -> Expected:
    first, second = p.mask(p.settings["rate"]), p.mask(p.settings["rate"])
    base, other = p.base(scaled(first)), p.other(scaled(second))
    both = (p.loss(base) + p.loss(other)) / 2
    return Expected(base, p.distance(base, other), both - p.loss(base) if p.settings["both_losses"] else _none(base))


def r_drop(p: Problem) -> Expected:
    first, second = p.mask(p.settings["rate"]), p.mask(p.settings["rate"])
    base, other = p.base(scaled(first)), p.other(scaled(second))
    there, back = p.mean(each.each_kl(base, other)), p.mean(each.each_kl(other, base))
    return Expected(base, (there + back) / 2, p.loss(other) if p.settings.get("both_losses", True) else _none(base))


def pseudo_ensemble(p: Problem) -> Expected:
    base = p.base()
    return Expected(base, p.distance(base, p.other(scaled(p.mask(p.settings["rate"])))), _none(base))


def expectation_linear_dropout(p: Problem) -> Expected:
    base = p.base(scaled(p.mask(p.settings["rate"])))
    return Expected(base, p.distance(base, p.model.explicit(p.x)), _none(base))


def random_perturbation(p: Problem) -> Expected:
    base = p.base()
    return Expected(base, p.distance(base, p.other(shift=p.settings["epsilon"] * p.unit(p.noise()))), _none(base))


def virtual_adversarial_training(p: Problem) -> Expected:
    base, direction = p.base(), p.unit(p.noise())
    for _ in range(p.settings.get("power_iterations", 1)):
        r = (p.settings["finite_difference"] * direction).requires_grad_()
        (gradient,) = torch.autograd.grad(p.distance(base, p.other(shift=r), detach_base=True), r)
        direction = p.unit(gradient)
    return Expected(base, p.distance(base, p.other(shift=p.settings["epsilon"] * direction)), _none(base))


def adversarial_training(p: Problem) -> Expected:
    r = torch.zeros(*p.x.shape[:2], FEATURES, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(p.loss(p.model.explicit(p.x, kind=p.kind, shift=r, noise=p.base_noise)), r)
    base = p.base()
    return Expected(base, p.loss(p.other(shift=p.settings["epsilon"] * p.unit(gradient))), _none(base))

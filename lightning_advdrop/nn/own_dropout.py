"""Dropout that a network draws itself at mask sites, where a given mask replaces it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function


class Place(NamedTuple):
    """A place in a network that is a mask site, identified by its kind and anchor.

    Attributes:
        kind: ``weight``, ``embedding``, ``input`` or ``output``, see `lightning_advdrop.masking.MaskSite`.
        anchor: the parameter that `lightning_advdrop.masking.find_sites` anchors the site to.
    """

    kind: str
    anchor: Tensor


def own_noise(shape: Sequence[int], p: float, places: Sequence[Place], activation: Tensor) -> Tensor | None:
    """Draw the factors of a network's own dropout: 0 with probability ``p``, else ``1 / (1 - p)``.

    Function modes see the call. Where a mask acts at one of the places, the masking mode draws the factors, but returns
    None.

    Args:
        shape: the shape of the factors, that of a mask at the places.
        p: the probability of a zero, in [0, 1).
        places: the sites at the place where the factors act, such as a layer's output and the next one's input.
        activation: the activation to multiply; the factors have its type and device.

    Returns:
        The factors, or None if nothing is to be multiplied.

    Example:
        >>> import torch
        >>> own_noise((1, 99), 0.5, [], torch.zeros(3, 99)).unique()
        tensor([0., 2.])
    """
    anchors = tuple(place.anchor for place in places)
    if has_torch_function((activation, *anchors)):
        found: Tensor | None = handle_torch_function(own_noise, (activation, *anchors), shape, p, places, activation)
        return found
    return draw_noise(shape, p, activation)


def draw_noise(shape: Sequence[int], p: float, like: Tensor) -> Tensor:
    """Draw the factors of `own_noise`, invisibly to function modes.

    Args:
        shape: the shape of the factors.
        p: the probability of a zero, in [0, 1).
        like: a tensor of their type and device.

    Example:
        >>> draw_noise((2, 3), 0.0, Tensor([1.0])).shape
        torch.Size([2, 3])
    """
    return drop_ones(ones_to_drop(shape, like), shape, p)


def ones_to_drop(shape: Sequence[int], like: Tensor) -> Tensor:
    """Make what `drop_ones` drops from.

    Args:
        shape: the shape of the factors.
        like: a tensor of their type and device.

    Example:
        >>> ones_to_drop((3, 1), Tensor([1.0])).shape
        torch.Size([3])
    """
    # A column is drawn as one row, so that the words of an embedding table share a budget at a site of kind dropout.
    return like.new_ones(tuple(shape[:-1]) if shape[-1] == 1 else tuple(shape))


def drop_ones(ones: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """Draw the factors of `own_noise` from what `ones_to_drop` made.

    Args:
        ones: ones.
        shape: the shape of the factors.
        p: the probability of a zero, in [0, 1).

    Example:
        >>> drop_ones(ones_to_drop((3, 1), Tensor([1.0])), (3, 1), 0.0).shape
        torch.Size([3, 1])
    """
    return F.dropout(ones, p).view(tuple(shape))


def masked_weight(weight: Tensor, mask: Tensor) -> Tensor:
    """Compute ``weight * mask``, visibly to function modes, which recognise the product as the weight.

    Args:
        weight: a parameter.
        mask: a mask of its shape.

    Example:
        >>> import torch
        >>> masked_weight(torch.ones(2), torch.tensor([0.0, 2.0]))
        tensor([0., 2.])
    """
    if has_torch_function((weight, mask)):
        product: Tensor = handle_torch_function(masked_weight, (weight, mask), weight, mask)
        return product
    return weight * mask


def dropped_weight(weight: Tensor, p: float, training: bool = True) -> Tensor:
    """Drop single elements of a weight, the same ones for all steps and examples of a pass (DropConnect).

    Call a recurrent layer's function with the result in place of its hidden-to-hidden weight.

    Source: Wan et al., "Regularization of Neural Networks using DropConnect", ICML 2013; Merity, Keskar & Socher,
    "Regularizing and Optimizing LSTM Language Models", ICLR 2018 (arXiv 1708.02182), section 2.

    Args:
        weight: the hidden-to-hidden weight, ``(rows, H)``, a parameter.
        p: the probability of dropping an element, in [0, 1).
        training: False to drop nothing.

    Returns:
        A tensor like ``weight``; the weight itself if nothing is dropped.

    Example:
        >>> import torch
        >>> dropped_weight(torch.ones(12, 3), 0.5).unique()
        tensor([0., 2.])
    """
    if not training or p == 0:
        return weight
    noise = own_noise(weight.shape, p, [Place("weight", weight)], weight)
    return weight if noise is None else masked_weight(weight, noise)


def word_dropout(tokens: Tensor, table: Tensor, p: float, training: bool = True) -> Tensor:
    """Embed tokens, with whole words dropped wherever they occur in a pass.

    Source: Gal & Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", NIPS 2016
    (arXiv 1512.05287), section 4.2.

    Args:
        tokens: the word indices, int64, any shape.
        table: the embeddings, ``(V, E)``, a parameter.
        p: the probability of dropping a word, in [0, 1).
        training: False to drop nothing.

    Returns:
        The embeddings, ``(*tokens.shape, E)``.

    Example:
        >>> import torch
        >>> once, _, again = word_dropout(torch.tensor([0, 3, 0]), torch.ones(4, 2), 0.5)
        >>> torch.equal(once, again)
        True
    """
    found = F.embedding(tokens, table)
    if not training or p == 0:
        return found
    noise = own_noise((len(table), 1), p, [Place("embedding", table)], found)
    return found if noise is None else found * F.embedding(tokens, noise)


def locked_dropout(x: Tensor, p: float, training: bool = True, places: Sequence[Place] = ()) -> Tensor:
    """Drop the same units of a sequence at every step (variational dropout).

    Source: Gal & Ghahramani (2016), section 4; called locked dropout by Merity et al. (2018).

    Args:
        x: activations, ``(T, B, D)``.
        p: the probability of dropping a unit, in [0, 1).
        training: False to drop nothing.
        places: the mask sites at this place, such as a layer's output and the next one's input.

    Returns:
        A tensor like ``x``.

    Example:
        >>> import torch
        >>> first, second = locked_dropout(torch.ones(2, 3, 4), 0.5)
        >>> torch.equal(first, second)
        True
    """
    if not training or p == 0:
        return x
    noise = own_noise((x.shape[1], 1, x.shape[2]), p, places, x)
    return x if noise is None else x * noise.transpose(0, 1)

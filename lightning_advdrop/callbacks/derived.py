"""Callbacks that are derived from their regularizer: their arguments, defaults and descriptions are its own."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, get_type_hints

from lightning_advdrop._documentation import with_arguments
from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.regularizers import Regularizer


class DerivedCallback(RegularizerCallback):
    """A callback of one regularizer, which takes ``sites``, the regularizer's arguments and `RegularizerCallback`'s.

    A subclass names the regularizer, a dataclass, as the class argument ``of``. The constructor is made from it, with a
    signature and a section *Args* in the docstring that are complete.

    Example:
        >>> from lightning_advdrop.regularizers import RDrop
        >>> class OtherDrop(DerivedCallback, of=RDrop, sites="weight"):
        ...     '''R-Drop of weights.'''
        >>> OtherDrop(rate=0.2, weight=0.5).regularizer
        RDrop(rate=0.2, divergence='auto', both_losses=True)
        >>> list(inspect.signature(OtherDrop).parameters)[:4]
        ['sites', 'rate', 'divergence', 'both_losses']
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"{type(self).__name__} must name its regularizer: class ...(DerivedCallback, of=...).")

    def __init_subclass__(cls, *, of: type[Regularizer] | None = None, sites: str = "recurrent", **kwargs: Any) -> None:
        """Make the constructor.

        Args:
            of: the regularizer; None for a subclass of a derived callback.
            sites: the default of the argument ``sites``.
            kwargs: of other base classes.
        """
        super().__init_subclass__(**kwargs)
        if of is not None:
            cls.__init__ = _constructor(cls, of, _signature(of, sites))  # type: ignore[method-assign]
            cls.log_prefix = vars(cls).get("log_prefix", of.log_prefix)
            cls.__doc__ = with_arguments(cls, RegularizerCallback, of)


def _constructor(cls: type[DerivedCallback], of: type[Regularizer], signature: inspect.Signature) -> Any:
    own = [each.name for each in fields(of) if each.init]  # type: ignore[arg-type]

    def init(self: RegularizerCallback, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}.__init__() {error}") from None
        bound.apply_defaults()
        given = {name: value for name, value in bound.arguments.items() if name != "self"}
        regularizer = of(**{name: given.pop(name) for name in own})
        RegularizerCallback.__init__(self, regularizer, **given)

    init.__name__, init.__qualname__ = "__init__", f"{cls.__qualname__}.__init__"
    vars(init)["__signature__"] = signature
    return init


def _signature(of: type[Regularizer], sites: str) -> inspect.Signature:
    """``(self, sites, <of the regularizer>, *, <of `RegularizerCallback`>)``, with evaluated types."""
    types = get_type_hints(RegularizerCallback.__init__) | get_type_hints(of)
    base = dict(inspect.signature(RegularizerCallback.__init__).parameters)
    own = list(inspect.signature(of).parameters.values())
    of_self = base.pop("self")
    del base["regularizer"]
    parameters = [base.pop("sites").replace(default=sites), *own, *base.values()]
    return inspect.Signature([of_self, *(each.replace(annotation=types[each.name]) for each in parameters)])

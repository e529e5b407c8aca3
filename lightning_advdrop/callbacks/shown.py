"""How callbacks are shown."""

from __future__ import annotations

import inspect
from typing import Any


class ShownWithArguments:
    """Show an object by its class and those of its arguments that are not the defaults.

    Arguments are read from the attributes of the same names.

    Example:
        >>> class Every(ShownWithArguments):
        ...     def __init__(self, n: int = 1, name: str | None = None) -> None:
        ...         self.n, self.name = n, name
        >>> Every(), Every(n=3)
        (Every(), Every(n=3))
    """

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters.values()
        given = [(each.name, self._argument(each)) for each in parameters if self._argument(each) != each.default]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given)})"

    def _argument(self, parameter: inspect.Parameter) -> Any:
        # `sites` are kept as they were given under another name.
        kept = vars(self)
        name = "site_specs" if parameter.name == "sites" and "site_specs" in kept else parameter.name
        return kept.get(name, parameter.default)  # properties may be old names, which warn

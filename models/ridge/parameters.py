"""The constructor's parameters by name, as scikit-learn's tools ask for them."""

from __future__ import annotations

import inspect
from typing import Any, Self

from models.errors import SettingError

__all__ = ["Parameters"]


class Parameters:
    """What `clone` and searches need of an estimator that only stores its settings."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the constructor (scikit-learn's contract)."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the constructor.

        Raises
        ------
        SettingError
            If there is none of that name.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise SettingError(
                    f"{type(self).__name__} has no parameter {name!r}; it knows {sorted(known)}."
                )
            setattr(self, name, value)
        return self

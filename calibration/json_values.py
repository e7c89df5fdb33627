"""Results as JSON holds them: what is not a finite number becomes null."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["json_values"]


def json_values(value: Any) -> Any:
    """Return mappings, sequences and numbers, NumPy's too, as plain JSON values."""
    if isinstance(value, dict):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value

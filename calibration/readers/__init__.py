"""Readers of recordings with known stimuli: many formats, one form (`calibration.data.dataset`)."""

from calibration.readers.describe import describe
from calibration.readers.detect import detect_format
from calibration.readers.read import list_participants, read_dataset

__all__ = ["describe", "detect_format", "list_participants", "read_dataset"]

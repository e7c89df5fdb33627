"""The one family of exceptions.

Each message says what was expected, what came, and what to do; the command line prints it as one
sentence and leaves with the exit code of its class.

    HearbackError
    ├── SettingError          a value that a person or a program chose is not usable      exit 2
    ├── SourceError           a brain stream is missing, wrong or gone                    exit 3
    ├── FileError             a file or folder is missing, damaged or not writable        exit 3
    │   └── BundleError       a bundle does not hold what its manifest says               exit 3
    ├── DeviceError           an audio device or accelerator cannot be had                exit 3
    └── StageError            a stage of the live path failed too often                   exit 3

A session that was aborted is no error: it ends cleanly, and the command line leaves with 4.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BundleError",
    "DeviceError",
    "FileError",
    "HearbackError",
    "SettingError",
    "SourceError",
    "StageError",
]


class HearbackError(Exception):
    """Base of everything that hearback raises on purpose."""

    exit_code: ClassVar[int] = 3


class SettingError(HearbackError, ValueError):
    """A setting, argument or command-line option is not usable."""

    exit_code = 2


class SourceError(HearbackError):
    """A stream is missing, is not what the bundle expects, or has gone for good."""


class FileError(HearbackError):
    """A file or folder is missing, damaged, of the wrong kind or not writable."""


class BundleError(FileError):
    """A bundle is incomplete, was changed, or does not fit this version or this stream."""


class DeviceError(HearbackError):
    """An audio device or an accelerator cannot be had."""


class StageError(HearbackError):
    """A stage of the live path failed too often to go on."""

"""Strict TOML to frozen dataclass: an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from models.errors import FileError, SettingError

__all__ = ["load_settings", "settings_from_dict"]

T = TypeVar("T")


def load_settings(path: Path, kind: type[T], *, given: dict[str, Any] | None = None) -> T:
    """Read a TOML file into a dataclass; its tables are dataclasses inside it.

    Parameters
    ----------
    path : Path
        The TOML file.
    kind : type
        A dataclass. Fields may be bool, int, float, str, Path, Literal, tuples of these, other
        dataclasses (a table) and any of them or None.
    given : dict, optional
        Values from elsewhere (a command line), already typed, that win over the file.

    Raises
    ------
    FileError
        If the file cannot be read, or is not TOML.
    SettingError
        If a key is unknown, missing, or of the wrong type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise FileError(f"Cannot read the settings {path}: {reason}.") from error
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"The settings {path} are not TOML: {error}.") from error
    return settings_from_dict(kind, values, given=given)


def settings_from_dict(
    kind: type[T], values: dict[str, Any], where: str = "", *, given: dict[str, Any] | None = None
) -> T:
    """Make a dataclass from a dict, strictly.

    Parameters
    ----------
    kind : type
        The dataclass.
    values : dict
        As `tomllib` gives it.
    where : str
        Name of the table, for messages; "" at the top.
    given : dict, optional
        As in `load_settings`.

    Raises
    ------
    SettingError
        If a key is unknown, missing, or of the wrong type.
    """
    if not is_dataclass(kind):
        raise TypeError(f"{kind!r} is not a dataclass")
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in fields(kind) if item.init}
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f" Did you mean '{nearest[0]}'?" if nearest else f" Known: {sorted(known)}."
            raise SettingError(f"Unknown setting '{_path(where, key)}'.{hint}")
    given = given or {}
    for name, item in known.items():
        needed = item.default is MISSING and item.default_factory is MISSING
        if needed and name not in values and name not in given:
            raise SettingError(
                f"Setting '{_path(where, name)}' is missing and has no default. Put it into the "
                "file, or give it on the command line."
            )
    made = {name: _typed(hints[name], value, _path(where, name)) for name, value in values.items()}
    return cast(T, kind(**(made | given)))


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _typed(kind: Any, value: Any, where: str) -> Any:
    """Return `value` as `kind`, without guessing: only int to float and str to Path are turned."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(kind, value, where)
    if origin is typing.Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        _refuse(where, f"one of {list(arguments)}", value)
    if origin is tuple and isinstance(value, list):
        return _tuple(arguments, value, where)
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return settings_from_dict(kind, value, where)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind in (bool, int, str) and type(value) is kind:
        return value
    expected = "a table" if is_dataclass(kind) else getattr(kind, "__name__", str(kind))
    return _refuse(where, expected, value)


def _one_of(kind: Any, value: Any, where: str) -> Any:
    choices = [item for item in typing.get_args(kind) if item is not type(None)]
    for choice in choices:
        try:
            return _typed(choice, value, where)
        except SettingError:
            if choice is choices[-1]:
                raise
    raise TypeError(f"{kind!r} has no type to choose")


def _tuple(kinds: tuple[Any, ...], value: list[Any], where: str) -> tuple[Any, ...]:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        _refuse(where, f"{len(kinds)} values", value)
    pairs = zip(kinds, value, strict=True)
    return tuple(_typed(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(pairs))


def _refuse(where: str, expected: str, value: Any) -> typing.NoReturn:
    raise SettingError(f"Setting '{where}' must be {expected}, got {value!r}.")

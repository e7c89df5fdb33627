"""Strict, bounded JSON: bytes that others wrote become typed records, or a clear refusal.

Python's own parser takes NaN, repeated keys and any nesting, and a dataclass takes any value; what
comes from a file or from the network is held to the type, the size and the finiteness that its
record states.
"""

from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, NoReturn

from models.errors import SettingError

__all__ = ["parse_object", "record_from_json", "unknown_key"]

_MAX_DEPTH = 12
_MAX_TEXT = 4096


def parse_object(data: bytes, where: str, *, max_bytes: int, max_items: int = 200_000) -> Any:
    """Parse one JSON object.

    Parameters
    ----------
    data : bytes
        UTF-8 text of one JSON object.
    where : str
        What it is, for the messages, e.g. ``"manifest.json"``.
    max_bytes, max_items : int
        The most bytes, and the most values on all levels together.

    Returns
    -------
    values : dict
        Only dicts with text keys, lists, text, finite numbers, booleans and None.

    Raises
    ------
    SettingError
        If it is too large, not UTF-8, not JSON, not an object, nested too deeply, repeats a key,
        or holds a number that is not finite.
    """
    if len(data) > max_bytes:
        raise SettingError(f"{where} has {len(data)} bytes; at most {max_bytes} are read.")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise SettingError(f"{where} has the entry {twice!r} twice; one was expected.")
        return result

    def refuse(text: str) -> NoReturn:
        raise SettingError(f"{where} holds the number {text}; numbers must be finite.")

    try:
        values = json.loads(data.decode(), object_pairs_hook=pairs, parse_constant=refuse)
    except SettingError:
        raise
    except UnicodeDecodeError as error:
        raise SettingError(f"{where} is not UTF-8 text: {error.reason}.") from error
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{where} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise SettingError(f"{where} must hold one JSON object, not {type(values).__name__}.")
    _check_tree(values, where, max_items)
    return values


def _check_tree(values: Any, where: str, max_items: int) -> None:
    """Walk all levels without recursion: depth, count, length of text, finiteness."""
    waiting: list[tuple[Any, int]] = [(values, 1)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > _MAX_DEPTH:
            raise SettingError(f"{where} is nested more than {_MAX_DEPTH} levels deep.")
        if seen > max_items:
            raise SettingError(f"{where} holds more than {max_items} values.")
        if isinstance(value, dict):
            waiting.extend((item, depth + 1) for pair in value.items() for item in pair)
        elif isinstance(value, list):
            waiting.extend((item, depth + 1) for item in value)
        elif isinstance(value, str) and len(value) > _MAX_TEXT:
            raise SettingError(f"{where} holds a text of more than {_MAX_TEXT} characters.")
        elif isinstance(value, float) and not math.isfinite(value):  # 1e999
            raise SettingError(f"{where} holds a number that is not finite.")
        elif isinstance(value, int) and abs(value) > 2**63:
            raise SettingError(f"{where} holds a whole number beyond 64 bits.")


def unknown_key(where: str, key: str, known: list[str]) -> SettingError:
    """Return the refusal of an unknown entry, naming the nearest known one."""
    near = get_close_matches(key, known, 1)
    hint = f"Did you mean {near[0]!r}?" if near else f"It knows {sorted(known)}."
    return SettingError(f"{where} has an unknown entry {key!r}. {hint}")


def record_from_json(kind: type[Any], values: Any, where: str) -> Any:
    """Make a frozen dataclass from JSON values, each checked against its annotation.

    The text "inf" stands for infinity, and only in entries whose default is infinite. A union of
    dataclasses is told apart by its ``kind``; a union with None takes null too.

    Raises
    ------
    SettingError
        If an entry is unknown, missing or of another type; `where` and the entry are named.
    """
    if not isinstance(values, dict):
        raise _wrong(where, "an object", values)
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    for key in values:
        if key not in known:
            raise unknown_key(where, key, list(known))
    for name, item in known.items():
        if name not in values and item.default is MISSING and item.default_factory is MISSING:
            raise SettingError(f"{where} lacks the entry {name!r}.")
    typed: dict[str, Any] = {}
    for key, value in values.items():
        if value == "inf" and known[key].default == math.inf:
            typed[key] = math.inf
        else:
            typed[key] = _typed(hints[key], value, f"{where}.{key}")
    return kind(**typed)


def _typed(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the annotation `hint` wants it, or refuse it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            raise _wrong(where, f"one of {list(arguments)}", value)
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value, where)
    if origin is tuple:
        return _row(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        return {key: _typed(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return record_from_json(hint, value, where)
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(where, "a number", value)
        return float(value)
    if hint is int and (isinstance(value, bool) or not isinstance(value, int)):
        raise _wrong(where, "a whole number", value)
    if hint is str and (not isinstance(value, str) or not value.isprintable()):
        raise _wrong(where, "printable text", value)
    if hint is bool and not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def _one_of(records: tuple[Any, ...], value: Any, where: str) -> Any:
    """Choose the record of a union by the default of its field `kind`; one may be None."""
    if types.NoneType in records:
        if value is None:
            return None
        records = tuple(record for record in records if record is not types.NoneType)
        if len(records) == 1:
            return _typed(records[0], value, where)
    by_kind = {
        next(item.default for item in fields(record) if item.name == "kind"): record
        for record in records
    }
    name = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in by_kind:
        raise _wrong(f"{where}.kind", f"one of {sorted(map(str, by_kind))}", name)
    return record_from_json(by_kind[name], value, where)


def _row(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """Check a list against tuple[X, ...] or tuple[X, Y, Z]."""
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_typed(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise _wrong(where, f"{len(arguments)} values", value)
    return tuple(
        _typed(hint, item, f"{where}[{i}]")
        for i, (hint, item) in enumerate(zip(arguments, value, strict=True))
    )


def _wrong(where: str, expected: str, came: Any) -> SettingError:
    text = repr(came)
    return SettingError(f"{where} must be {expected}, not {text[:60]}.")

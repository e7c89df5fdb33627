"""How streams are asked for, without any being there."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingError
from stream import lsl
from stream.lsl import StreamQuery, resolve


def test_a_query_matches_all_that_was_said_and_nothing_else() -> None:
    query = StreamQuery("cap", "EEG", "id")
    assert query.predicate == "name='cap' and type='EEG' and source_id='id'"
    assert query.described == "LSL stream named 'cap' of type 'EEG' with source id 'id'"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_quotes_in_names_are_passed_on_as_they_are(name: str) -> None:
    """liblsl's XPath is not at hand; the parts of the expression are put together again."""
    predicate = StreamQuery(name).predicate.removeprefix("name=")
    if predicate.startswith("concat("):
        parts = ast.literal_eval(
            "[" + predicate.removeprefix("concat(")[:-1].replace("\\", "\\\\") + "]"
        )
        assert "".join(parts) == name
    else:
        assert predicate[1:-1] == name
        assert predicate[0] == predicate[-1] not in name


def test_nothing_to_look_for_is_refused() -> None:
    with pytest.raises(SettingError, match="name, its type or its source id"):
        resolve()


@pytest.mark.parametrize("session", ["", "a b", "x]\n[lab", "x\nKnownPeers={10.0.0.1}"])
def test_a_session_name_cannot_smuggle_in_settings(
    session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsl, "_configured", False)
    monkeypatch.setenv("HEARBACK_LSL_SESSION", session)
    try:
        with pytest.raises(SettingError, match="HEARBACK_LSL_SESSION"):
            lsl.configure()
    finally:
        monkeypatch.setattr(lsl, "_configured", False)

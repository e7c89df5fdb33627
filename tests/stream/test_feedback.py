from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.bundle import save_bundle
from export.library import Library
from models.errors import SettingError
from stream.feedback import FeedbackValue
from stream.messages import Condition, FeatureWindow
from tests.export.bundles import (
    coarse_to_fine_parts,
    direct_parts,
    retrieval_parts,
    semantic_parts,
)

RETRIEVAL = retrieval_parts().manifest.chain
DIRECT = direct_parts().manifest.chain


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    parts = retrieval_parts()
    folder: Path = tmp_path_factory.mktemp("f") / "b"
    return Library(save_bundle(folder, parts.manifest, parts.files))


def condition(values: Any, confidence: float = float("nan")) -> Condition:
    window = FeatureWindow(np.zeros(1, np.float32), 0, 0, 1, 0.0, 1.0)
    return Condition(np.asarray(values, np.float32), window, 0, confidence)


def test_without_a_target_a_retrieval_chain_tells_how_sure_it_is() -> None:
    feedback = FeedbackValue(RETRIEVAL)
    for cosine, value in ((1.0, 1.0), (0.0, 0.5), (-1.0, 0.0), (1.0000001, 1.0)):
        assert feedback(condition(np.ones(6), cosine)) == pytest.approx(value)
    assert math.isnan(feedback(condition(np.ones(6))))


def test_with_a_target_it_tells_how_near_the_target_is(library: Library) -> None:
    feedback = FeedbackValue(RETRIEVAL, library)
    feedback.set_target("s2")
    assert feedback(condition(library.embeddings[2])) == pytest.approx(1.0)
    assert feedback(condition(-3 * library.embeddings[2])) == pytest.approx(0.0, abs=1e-6)
    feedback.set_target(" b ")
    mean = library.embeddings[[1, 3]].astype(np.float64).mean(axis=0)
    expected = (1 + library.embeddings[0] @ (mean / np.linalg.norm(mean))) / 2
    assert feedback(condition(library.embeddings[0])) == pytest.approx(expected, abs=1e-6)
    feedback.set_target("")
    assert feedback(condition(library.embeddings[2], 0.0)) == 0.5


def test_a_target_that_is_not_there_changes_nothing(library: Library) -> None:
    feedback = FeedbackValue(RETRIEVAL, library)
    feedback.set_target("a")
    with pytest.raises(SettingError, match="'violin'"):
        feedback.set_target("violin")
    assert feedback.target == "a"
    with pytest.raises(SettingError, match="no library"):
        FeedbackValue(DIRECT).set_target("a")


def test_a_generator_without_a_library_tells_how_steady_the_decoder_is() -> None:
    feedback = FeedbackValue(coarse_to_fine_parts().manifest.chain)
    assert math.isnan(feedback(condition([1.0, 0.0])))
    values = [feedback(condition(v)) for v in ([0.0, 2.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0])]
    assert values[:3] == pytest.approx([0.5, 1.0, 0.0])
    assert math.isnan(values[3])
    with pytest.raises(SettingError, match="no library"):
        feedback.set_target("a")


def test_a_generator_with_a_library_tells_what_a_retrieval_chain_tells(library: Library) -> None:
    feedback = FeedbackValue(semantic_parts().manifest.chain, library)
    assert feedback(condition(np.ones(6), 0.5)) == pytest.approx(0.75)
    feedback.set_target("s2")
    assert feedback(condition(library.embeddings[2])) == pytest.approx(1.0)


def test_a_direct_chain_tells_the_level() -> None:
    feedback = FeedbackValue(DIRECT)
    floor = math.log(1e-5)
    for level, value in ((floor, 0.0), (0.0, 1.0), (floor / 2, 0.5), (3.0, 1.0), (-99.0, 0.0)):
        assert feedback(condition(np.full((3, 4), level))) == pytest.approx(value, abs=1e-6)


@settings(deadline=None)
@given(values=st.lists(st.floats(width=32), min_size=6, max_size=6))
def test_every_value_lies_in_range_or_is_nan(library: Library, values: list[float]) -> None:
    targeted = FeedbackValue(RETRIEVAL, library)
    targeted.set_target("s0")
    for feedback in (FeedbackValue(DIRECT), targeted, FeedbackValue(RETRIEVAL)):
        with np.errstate(all="ignore"):
            value = feedback(condition(values, values[0]))
        assert math.isnan(value) or 0.0 <= value <= 1.0

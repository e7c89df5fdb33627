from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.reproduce.options import ReproduceOptions
from calibration.reproduce.run import reproduce
from calibration.reproduce.synthetic_fmri import lowest_clap, orthogonal, rerank
from models.errors import SettingError

cosine = st.floats(-1, 1, width=32)


def test_min_max_scaling_gives_the_published_order_and_raw_cosines_cannot() -> None:
    low = lowest_clap(0.889, 0.205, 0.314)
    assert 0 < low < 0.173
    clap = [0.314, 0.241, 0.205, 0.173, low]
    clip = [0.0, 0.62, 1.0, 0.75, 0.85]
    score = rerank(clap, clip)
    assert score[2] == pytest.approx(0.889, abs=1e-9)
    assert int(np.argmax(score)) == 2
    assert (0.889 - 0.3 * 0.205) / 0.7 > 1.0


@given(st.lists(st.tuples(cosine, cosine), min_size=1, max_size=8), st.floats(0, 1))
def test_scores_lie_in_0_to_1_and_weigh_both_axes(
    pairs: list[tuple[float, float]], alpha: float
) -> None:
    clap, clip = np.array(pairs).T
    score = rerank(clap, clip, alpha=alpha)
    assert np.all((score >= -1e-12) & (score <= 1 + 1e-12))
    only = rerank(clap, clip, alpha=1.0)
    if np.ptp(clap) > 0:
        assert only[np.argmax(clap)] == pytest.approx(1.0)


def test_a_rotation_keeps_lengths() -> None:
    rng = np.random.default_rng(0)
    for shape in ((12, 20), (20, 12)):
        q = orthogonal(*shape, rng=rng)
        assert q.shape == shape
        product = q @ q.T if shape[0] < shape[1] else q.T @ q
        np.testing.assert_allclose(product, np.eye(12), atol=1e-12)
    with pytest.raises(SettingError, match="sizes above 0"):
        orthogonal(0, 3, rng=rng)


def test_the_page_says_what_it_is_and_what_waits() -> None:
    page = reproduce("synthetic-fmri", ReproduceOptions())
    assert page.claim.startswith("Plumbing, not evidence")
    at = {(row.table, row.name, row.metric): row for row in page.rows}
    assert at["reranking", "candidate 1", "score"].difference == pytest.approx(0.0, abs=1e-9)
    assert at["reranking", "candidate 2", "score"].waits
    # 20,484 -> 2,048 -> 2,048 -> 15,724 with two layer norms
    assert at["adapter B", "MLP", "parameters, millions"].remark == "78,376,300"
    assert at["adapter A", "60 frames", "components"].ours in (58.0, 59.0)
    assert all("closed" in row.waits or row.ours is not None or row.waits for row in page.rows)
    with pytest.raises(SettingError, match="has no table 'decoding'"):
        reproduce("synthetic-fmri", ReproduceOptions(only=("decoding",)))
    with pytest.raises(SettingError, match="No paper is called"):
        reproduce("brain3music", ReproduceOptions())
    with pytest.raises(SettingError, match="as many CLAP as CLIP"):
        rerank([1.0], [1.0, 2.0])

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.honest.identify import (
    clip_table,
    n_way_top_k,
    ranks,
    score_if_own,
    similarities,
    window_identification,
)
from calibration.honest.permutation import block_units
from calibration.honest.score import ScoreSettings, score_everything
from calibration.honest.splits import make_splits
from calibration.scores import correlations, cosines, identification
from models.errors import SettingError
from tests.calibration.honest.toy import make, music

Rows = NDArray[np.float64]
_QUICK = ScoreSettings(n_permutations=499, n_resamples=200)


def _ridge(train: Samples, test: Samples) -> Rows:
    x = np.asarray(train.mean_x(), np.float64)
    weights = np.linalg.solve(x.T @ x + 20.0 * np.eye(x.shape[1]), x.T @ train.y)
    return np.asarray(test.mean_x() @ weights, np.float64)


def _best(samples: Samples, weights: Rows, *, snr: float) -> Rows:
    """The posterior mean of the targets: what no linear decoder surpasses (`toy.music`)."""
    covariance = 1.25  # of the targets: clips 1, windows 0.25
    a = np.sqrt(snr) * weights  # (d, n_features)
    gain = covariance * a @ np.linalg.inv(covariance * a.T @ a + np.eye(a.shape[1]))
    return np.asarray(samples.mean_x() @ gain.T, np.float64)


def _halves(snr: float, *, n_clips: int = 80, seed: int = 0) -> tuple[Samples, Samples, Rows]:
    samples, weights = music(n_clips=n_clips, snr=snr, seed=seed)
    split = make_splits(samples, "clip", n_folds=2)[0]
    return samples.take(split.train), samples.take(split.test), weights


def test_clip_level_is_the_printed_formula_on_means_over_windows() -> None:
    train, test, _ = _halves(0.3)
    predictions = _ridge(train, test)
    scores = score_everything(predictions, test, settings=_QUICK)
    clips = np.unique(test.clip)
    p = np.array([predictions[test.clip == c].mean(axis=0) for c in clips])
    t = np.array([test.y[test.clip == c].mean(axis=0) for c in clips])
    c = np.corrcoef(p, t)[: len(p), len(p) :]
    n = len(clips)
    expected = np.mean([np.sum(c[i, i] > np.delete(c[i], i)) / (n - 1) for i in range(n)])
    assert scores.identification == pytest.approx(expected, abs=1e-12)
    assert scores.identification_ties_half == pytest.approx(expected, abs=1e-12)
    each = [np.corrcoef(p[:, k], t[:, k])[0, 1] for k in range(p.shape[1])]
    np.testing.assert_allclose(scores.pearson_each, each, atol=1e-12)
    rank = np.array([np.sum(c[i] >= c[i, i]) for i in range(n)])
    assert scores.median_rank == np.median(rank)
    assert scores.mean_reciprocal_rank == pytest.approx(np.mean(1.0 / rank))
    assert scores.top_k[f"top1_of_{n}"] == np.mean(rank == 1)
    assert scores.n_clips == n
    assert scores.n_windows == len(test)
    assert scores.similarity == pytest.approx(np.mean(np.diag(c)), abs=1e-9)


def test_window_level_leaves_windows_of_the_same_clip_out() -> None:
    train, test, _ = _halves(0.3, n_clips=16)
    predictions = _ridge(train, test)
    c = np.corrcoef(predictions, test.y)[: len(test), len(test) :]
    other = test.clip[:, None] != test.clip[None, :]
    expected = [np.mean(c[i, i] > c[i, other[i]]) for i in range(len(test))]
    result = window_identification(predictions, test, metric="correlation")
    assert result.strict == pytest.approx(np.mean(expected), abs=1e-12)
    with_own = window_identification(
        predictions, test, metric="correlation", exclude_same_clip=False
    )
    everything = [np.mean(np.delete(c[i, i] > c[i], i)) for i in range(len(test))]
    assert with_own.strict == pytest.approx(np.mean(everything), abs=1e-12)


@pytest.mark.parametrize("metric", ["correlation", "cosine"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_identification_does_not_see_order_of_dimensions_scale_or_offset(
    metric: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    p, t = rng.standard_normal((9, 14)), rng.standard_normal((9, 14))
    order = rng.permutation(14)
    scale = rng.uniform(0.01, 100.0, (9, 1))
    offset = rng.uniform(-10.0, 10.0, (9, 1)) if metric == "correlation" else 0.0
    plain = similarities(p, t, metric=metric)  # type: ignore[arg-type]
    changed = similarities(scale * p[:, order] + offset, t[:, order], metric=metric)  # type: ignore[arg-type]
    np.testing.assert_array_equal(identification(plain).each, identification(changed).each)
    single = similarities(p.astype(np.float32), t.astype(np.float32), metric=metric)  # type: ignore[arg-type]
    difference = identification(single).ties_half - identification(plain).ties_half
    assert abs(difference) <= 0.002 + 1.0 / (9 * 8)  # one pair may change places


def test_float32_predictions_score_as_float64_ones() -> None:
    train, test, _ = _halves(0.1)
    predictions = _ridge(train, test)
    both = [
        score_everything(rows, test, settings=_QUICK)
        for rows in (predictions, predictions.astype(np.float32))
    ]
    assert abs(both[0].identification - both[1].identification) <= 0.002


def test_the_order_of_windows_does_not_matter() -> None:
    train, test, _ = _halves(0.1)
    predictions = _ridge(train, test)
    order = np.random.default_rng(0).permutation(len(test))
    one = score_everything(predictions, test, train=train, settings=_QUICK)
    two = score_everything(predictions[order], test.take(order), train=train, settings=_QUICK)
    for name in ("identification", "permutation_p", "standard_error", "floor_previous_clip"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), abs=1e-9), name
    assert one.window_identification == pytest.approx(two.window_identification)


def test_equal_targets_tie_and_the_mean_predictor_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(rng.standard_normal((5, 7)), 2, axis=0)  # clips in pairs with the same target
    samples = make(np.zeros((10, 3)), y, clip=np.array([f"c{k}" for k in range(10)]))
    scores = score_everything(y, samples, train=samples, settings=_QUICK)
    assert scores.identification == pytest.approx(8 / 9)  # the twin wins the tie
    assert scores.identification_ties_half == pytest.approx(8.5 / 9)
    assert scores.floor_mean_predictor == pytest.approx(0.5)
    nothing = score_everything(np.ones_like(y), samples, settings=_QUICK)
    assert nothing.identification == 0.0
    assert nothing.identification_ties_half == 0.5
    assert nothing.permutation_p == 1.0
    assert not nothing.decodable


def test_a_clip_heard_by_two_people_is_one_candidate() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((6, 9))
    samples = make(
        np.zeros((12, 3)),
        np.tile(y, (2, 1)),
        clip=np.tile([f"c{k}" for k in range(6)], 2),
        person=np.repeat(["p1", "p2"], 6),
    )
    scores = score_everything(np.tile(y, (2, 1)), samples, settings=_QUICK)
    assert (scores.n_clips, scores.n_people) == (6, 2)
    assert scores.identification == 1.0
    assert scores.sentence.startswith("These 2 people can be decoded")


def test_n_way_top_k_is_the_mean_over_all_draws() -> None:
    rng = np.random.default_rng(0)
    similarity = rng.standard_normal((12, 12)) + 0.7 * np.eye(12)
    rank = ranks(similarity, np.arange(12))
    hits = []
    for _ in range(4_000):
        row = rng.integers(12)
        others = rng.permutation(np.delete(np.arange(12), row))[:4]
        hits.append(np.sum(similarity[row, others] >= similarity[row, row]) < 2)
    found = n_way_top_k(rank, n_clips=12, n_way=5, k=2)
    assert found == pytest.approx(np.mean(hits), abs=4 * np.std(hits) / np.sqrt(4_000))
    assert n_way_top_k(rank, n_clips=12, n_way=12, k=3) == pytest.approx(np.mean(rank <= 3))
    with pytest.raises(SettingError, match="Choose fewer ways"):
        n_way_top_k(rank, n_clips=12, n_way=13, k=1)


def test_score_if_own_is_identification_for_each_choice() -> None:
    similarity = np.round(np.random.default_rng(0).standard_normal((6, 8)), 1)
    table = score_if_own(similarity)
    for column in range(8):
        own = np.full(6, column)
        np.testing.assert_allclose(table[:, column], identification(similarity, own=own).each)


def test_cosines_equal_the_formula_and_zero_has_no_direction() -> None:
    rng = np.random.default_rng(0)
    p, t = rng.standard_normal((3, 5)), rng.standard_normal((4, 5))
    expected = [[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in t] for x in p]
    np.testing.assert_allclose(cosines(p, t), expected, atol=1e-12)
    p[1] = 0.0
    np.testing.assert_array_equal(cosines(p, t)[1], 0.0)
    assert np.all(correlations(np.full((1, 5), 1e6 + 0.1), t) == 0.0)


def test_carry_over_from_the_clip_before_is_seen_and_warned_of() -> None:
    samples, _ = music(n_clips=60, snr=1.0)
    clips = clip_table(samples.y, samples, units=samples.clip)
    before = {str(c): k for k, c in enumerate(clips.clip)}
    rows = np.array([before.get(str(name), before[str(own)]) for name, own in
                     zip(samples.previous_clip, samples.clip, strict=True)])  # fmt: skip
    noise = 0.3 * np.random.default_rng(1).standard_normal(samples.y.shape)
    late = score_everything(clips.targets[rows] + noise, samples, settings=_QUICK)
    assert late.floor_previous_clip is not None
    assert late.floor_previous_clip > 0.9
    assert not late.decodable
    assert any("Try a longer lag" in line for line in late.warnings)
    mixed = score_everything(0.7 * samples.y + 0.3 * clips.targets[rows] + noise, samples)
    assert mixed.decodable
    assert any("reaches into the window" in line for line in mixed.warnings)
    right = score_everything(samples.y + noise, samples, settings=_QUICK)
    assert right.previous_clip_se is not None
    assert right.floor_previous_clip is not None
    assert right.floor_previous_clip <= 0.5 + 2 * right.previous_clip_se + 0.02


def test_a_fixed_order_is_found_by_the_order_predictor() -> None:
    rng = np.random.default_rng(0)
    theme = rng.standard_normal((10, 12))  # what stands at each place of every run
    parts = []
    for run in range(8):
        y = np.repeat(theme + 0.5 * rng.standard_normal((10, 12)), 4, axis=0)
        time = np.arange(40) * 1.5
        parts.append(
            make(
                np.zeros((40, 2)),
                y,
                clip=np.repeat([f"r{run}c{k}" for k in range(10)], 4),
                start_s=np.tile(np.arange(4) * 1.5, 10),
                run=np.full(40, f"r{run}"),
                order=run * 1e6 + time,
            )
        )
    train, test = parts[0], parts[7]
    for more in parts[1:7]:
        train = _joined(train, more)
    noise = rng.standard_normal(test.y.shape)
    scores = score_everything(noise, test, train=train, settings=_QUICK)
    assert scores.floor_order is not None
    assert scores.floor_order > 0.8
    assert not scores.decodable
    assert any("order of presentation alone" in line for line in scores.warnings)


def _joined(first: Samples, second: Samples) -> Samples:
    names = first.__dataclass_fields__
    return replace(
        first,
        **{name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names},
    )


def test_what_changes_within_a_clip_is_told_from_knowing_the_clip() -> None:
    train, test, _ = _halves(3.0)
    table = clip_table(test.y, test, units=test.clip)
    clip_only = score_everything(table.targets[table.own][table.row_of], test, settings=_QUICK)
    assert clip_only.window_identification_ties_half is not None
    assert clip_only.floor_within_clip == pytest.approx(clip_only.window_identification_ties_half)
    assert any("what changes within it" in line for line in clip_only.warnings)
    real = score_everything(_ridge(train, test), test, settings=_QUICK)
    assert real.window_identification_ties_half is not None
    assert real.floor_within_clip is not None
    assert real.window_identification_ties_half > real.floor_within_clip
    assert real.warnings == ()


def test_labels_alone_are_a_floor_of_their_own() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(40) % 4
    y = 3.0 * rng.standard_normal((4, 10))[label] + 0.5 * rng.standard_normal((40, 10))
    samples = make(
        np.zeros((40, 2)),
        y,
        clip=np.array([f"c{k}" for k in range(40)]),
        label=np.array([f"g{k}" for k in label]),
    )
    train, test = samples.take(np.arange(20)), samples.take(np.arange(20, 40))
    means = np.array([train.y[train.label == name].mean(axis=0) for name in test.label])
    genre_only = score_everything(means, test, train=train, settings=_QUICK)
    assert genre_only.floor_label_mean == genre_only.identification_ties_half
    assert genre_only.identification_other_label is not None
    assert genre_only.identification_same_label is not None
    assert genre_only.identification_other_label > 0.95
    assert genre_only.identification_same_label == pytest.approx(0.5, abs=1e-9)
    assert genre_only.similarity_mean_predictor is not None


def test_uncentred_targets_make_the_mean_predictor_look_good_and_that_is_printed() -> None:
    train, test, _ = _halves(0.0)
    offset = 20.0 * np.random.default_rng(0).standard_normal(train.y.shape[1])
    train = replace(train, y=train.y + offset)
    test = replace(test, y=test.y + offset)
    scores = score_everything(np.tile(offset, (len(test), 1)), test, train=train, settings=_QUICK)
    assert scores.similarity > 0.95
    assert scores.similarity_mean_predictor is not None
    assert scores.similarity_mean_predictor > 0.95
    assert scores.similarity_centred is not None
    assert abs(scores.similarity_centred) < 0.2


def test_a_leaky_split_marks_the_result_and_never_calls_it_decodable() -> None:
    samples, _ = music(snr=3.0)
    split = make_splits(samples, "random-chunk")[0]
    train, test = samples.take(split.train), samples.take(split.test)
    scores = score_everything(
        _ridge(train, test), test, train=train, split=split, test_openings=3, settings=_QUICK
    )
    assert scores.identification > 0.9
    assert scores.leaky
    assert not scores.decodable
    assert "cannot be judged" in scores.sentence
    assert any("The split leaks" in line for line in scores.warnings)
    assert any("opened 3 times" in line for line in scores.warnings)
    values = scores.to_json()
    assert values["leaky"] is True
    assert values["split"] == "random-chunk"
    assert values["test_openings"] == 3


def test_the_record_is_plain_json_with_the_agreed_keys() -> None:
    train, test, weights = _halves(1.0)
    scores = score_everything(
        _ridge(train, test),
        test,
        train=train,
        oracle=_best(test, weights, snr=1.0),
        settings=_QUICK,
    )
    values = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    for key in (
        "identification", "identification_ties_half", "chance", "floor_shuffled", "ceiling",
        "permutation_p", "n_clips", "split", "leaky", "test_openings", "decodable",
    ):  # fmt: skip
        assert key in values
    assert values["ceiling_kind"] == "oracle"
    assert values["chance"] == 0.5


def test_few_clips_are_called_too_few() -> None:
    samples, _ = music(n_clips=3, snr=5.0)
    scores = score_everything(samples.y, samples, settings=_QUICK)
    assert scores.identification == 1.0
    assert not scores.decodable
    assert "too few to tell" in scores.sentence


def test_a_few_long_clips_are_scored_by_blocks() -> None:
    rng = np.random.default_rng(0)
    n = 200
    y = np.cumsum(rng.standard_normal((n, 12)), axis=0) * 0.3
    samples = make(
        np.zeros((n, 2)),
        y,
        clip=np.repeat(["a", "b"], n // 2),
        start_s=np.tile(np.arange(100.0), 2),
    )
    predictions = y + rng.standard_normal(y.shape)
    units = block_units(samples, block_s=10.0)
    scores = score_everything(predictions, samples, units=units, settings=_QUICK)
    assert scores.n_clips == 20
    assert scores.decodable
    phase = replace(_QUICK, null="phase", n_permutations=199)
    again = score_everything(predictions, samples, units=units, settings=phase)
    assert again.null_kind == "phases"
    assert again.permutation_p == 1 / 200


def test_shuffled_brains_and_halves_are_scored_when_given() -> None:
    train, test, _ = _halves(1.0)
    rng = np.random.default_rng(0)
    predictions = _ridge(train, test)
    brains = [rng.standard_normal(test.y.shape) for _ in range(3)]
    halves = (predictions + 0.1 * rng.standard_normal(test.y.shape), predictions.copy())
    halves[0][:5] = np.nan  # a clip that was heard once
    scores = score_everything(
        predictions, test, train=train, shuffled=brains, halves=halves, settings=_QUICK
    )
    assert scores.shuffled_kind.startswith("mean of 3 decoders")
    assert abs(scores.floor_shuffled - 0.5) < 0.15
    assert scores.ceiling_kind == "split-half"
    assert scores.ceiling is not None
    assert scores.ceiling > 0.99
    assert score_everything(predictions, test, settings=_QUICK).ceiling is None


def test_what_cannot_be_scored_is_refused_with_the_reason() -> None:
    samples, _ = music(n_clips=4)
    with pytest.raises(SettingError, match="Decode exactly the windows"):
        score_everything(samples.y[:-1], samples)
    broken = samples.y.copy()
    broken[3, 2] = np.nan
    with pytest.raises(SettingError, match="1 values that are not finite"):
        score_everything(broken, samples)
    one = samples.take(samples.clip == "c000")
    with pytest.raises(SettingError, match="at least 2 clips"):
        score_everything(one.y, one)
    with pytest.raises(SettingError, match="n_permutations >= 1"):
        ScoreSettings(n_permutations=0)


def test_many_windows_are_thinned_at_the_window_level_only() -> None:
    train, test, _ = _halves(1.0)
    some = score_everything(_ridge(train, test), test, settings=replace(_QUICK, max_windows=100))
    assert (some.n_windows, some.n_windows_scored, some.n_clips) == (200, 100, 40)
    assert some.window_identification is not None


def test_decoding_rises_with_snr_and_reaches_the_oracle() -> None:
    found, best = [], []
    for snr in (0.02, 0.05, 0.1, 0.3, 1.0):
        samples, weights = music(n_clips=1_200, snr=snr, seed=5)
        split = make_splits(samples, "clip", n_folds=4)[0]
        train, test = samples.take(split.train), samples.take(split.test)
        scores = score_everything(
            _ridge(train, test), test, oracle=_best(test, weights, snr=snr),
            settings=replace(_QUICK, n_permutations=99, n_resamples=50),
        )  # fmt: skip
        assert scores.ceiling is not None
        found.append(scores.identification_ties_half)
        best.append(scores.ceiling)
    assert np.all(np.diff(found) > 0)
    assert np.max(np.abs(np.subtract(found, best))) <= 0.02, (found, best)


def test_without_signal_identification_is_at_chance_and_rarely_called_decodable() -> None:
    scores = []
    for seed in range(40):
        train, test, _ = _halves(0.0, seed=seed)
        scores.append(score_everything(_ridge(train, test), test, train=train, settings=_QUICK))
    values = np.array([one.identification_ties_half for one in scores])
    assert abs(values.mean() - 0.5) <= 2 * values.std(ddof=1) / np.sqrt(len(values))
    assert sum(one.decodable for one in scores) <= 4
    assert any("cannot be decoded from these recordings" in one.sentence for one in scores)

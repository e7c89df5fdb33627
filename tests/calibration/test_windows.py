"""Windows become samples only where they answer to one clip, whatever the lag; nothing leaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.data.dataset import Event, Run, Stimulus
from calibration.preprocess import PreprocessSpec
from calibration.run_features import (
    RunFeatures,
    run_features,
    standardise_runs,
    training_statistics,
)
from calibration.targets import ClassTargets
from calibration.windows import WindowChoice, choose_windows, make_samples
from models.errors import SettingError
from models.features import batch_features, make_extractor
from models.spec import FeatureSpec, PsdSpec, SampleSpec, StandardiseSpec, TrMeanSpec
from models.standardise import Standardiser
from tests.calibration.tiny_runs import TinyBrain

TR_S = 1.5


def counting_run(
    name: str, events: list[Event], *, n: int = 410, session: str = "", person: str = "sub-001"
) -> Run:
    """A run whose only voxel holds the number of the volume."""
    signal = np.arange(n, dtype=np.float32)[:, None]
    stamps = np.asarray(np.arange(n) * TR_S, np.float64)
    return Run(person, session, name, "", signal, 1 / TR_S, stamps, tuple(events))


def clips(names: list[str], *, onset_s: float = 0.0, duration_s: float = 14.99) -> list[Event]:
    return [Event(onset_s + 15.0 * k, duration_s, name, name[0]) for k, name in enumerate(names)]


def classes(runs: list[Run]) -> ClassTargets:
    names = sorted({event.label for run in runs for event in run.events})
    stimuli = {e.stimulus: Stimulus(e.stimulus, e.label) for run in runs for e in run.events}
    return ClassTargets(stimuli, dict(zip(names, np.eye(len(names)), strict=True)))


def music_genres() -> tuple[list[Run], list[Run]]:
    """The timetable of ds003720 without its dummies: 480 clips, and 60 heard four times."""
    train = [
        counting_run(f"train-{k:02d}", clips([f"a{40 * k + i}" for i in range(40)], onset_s=15.0))
        for k in range(12)
    ]
    test = [
        counting_run(f"test-{k}", clips([f"b{10 * k + i % 10}" for i in range(40)], onset_s=15.0))
        for k in range(6)
    ]
    return train, test


# MuLan-text, MuLan-music, w2v-BERT and SoundStream. The scanner stops with the sound: 4.5 s later,
# three windows of 1.5 s of the last clip have no volume.
@pytest.mark.parametrize(
    ("window_s", "n_each", "n_lost"), [(15.0, 1, 0), (10.0, 4, 0), (5.0, 7, 0), (1.5, 10, 3)]
)
def test_sliding_windows_of_brain2music_are_as_many_as_printed(
    window_s: float, n_each: int, n_lost: int
) -> None:
    spec, choice = TrMeanSpec(window_s=window_s), WindowChoice(stretch_s=window_s, align="start")
    train, test = (
        make_samples(
            run_features(runs, features=spec, shortest=0.25),
            lag_s=4.5,
            targets=classes(runs),
            choice=choice,
        )
        for runs in music_genres()
    )
    assert train.x.shape == (480 * n_each - 12 * n_lost, 1, 1)
    assert test.x.shape == (60 * n_each, 4, 1)
    assert np.sum(test.n_repetitions == 3) == 6 * n_lost
    np.testing.assert_allclose(train.start_s[:n_each], np.arange(n_each) * 1.5, atol=0.02)


def test_one_window_for_each_clip_is_the_mean_of_ten_volumes_three_after_its_onset() -> None:
    train, _ = music_genres()
    spec, choice = TrMeanSpec(window_s=15.0), WindowChoice(choose="clip")
    runs = run_features(train, features=spec, shortest=0.5)
    samples = make_samples(runs, lag_s=4.5, targets=classes(train), choice=choice)
    onset = 10 + 10 * (np.arange(480) % 40)  # volume at the onset of each clip
    last = onset == 400  # 7 of 10 volumes: 403 to 409
    np.testing.assert_allclose(samples.x[~last, 0, 0], onset[~last] + 3 + 4.5)
    np.testing.assert_allclose(samples.x[last, 0, 0], 406.0)
    assert samples.clip.tolist() == [f"a{k}" for k in range(480)]
    assert samples.run[40:42, 0].tolist() == ["train-01", "train-01"]
    assert np.all(np.diff(samples.order) > 0)
    whole = make_samples(
        run_features(train, features=spec), lag_s=4.5, targets=classes(train), choice=choice
    )
    np.testing.assert_array_equal(whole.x, samples.x[~last])


def test_the_clip_before_is_known_and_unknown_only_at_the_start_of_a_run() -> None:
    train, test = music_genres()
    features = run_features(train, features=TrMeanSpec(window_s=15.0))
    samples = make_samples(features, lag_s=0.0, targets=classes(train))
    first = np.arange(480) % 40 == 0
    assert np.all(samples.previous_clip[first] == "")
    assert samples.previous_clip[~first].tolist() == [f"a{k - 1}" for k in np.flatnonzero(~first)]
    repeated = make_samples(
        run_features(test, features=TrMeanSpec(window_s=15.0)), lag_s=0.0, targets=classes(test)
    )
    # In the fixed cycle of ten, three of four times the last clip stands before the first.
    assert repeated.previous_clip[:3].tolist() == ["b9", "b0", "b1"]


@settings(max_examples=60, deadline=None)
@given(
    onset_s=st.floats(0.0, 20.0),
    lag_s=st.floats(-6.0, 12.0),
    window_s=st.sampled_from([1.5, 4.5, 9.0]),
    exclude=st.tuples(st.floats(0.0, 4.0), st.floats(0.0, 4.0)),
    tolerance_s=st.sampled_from([None, 0.0, 0.2]),
)
def test_each_window_answers_to_one_clip_alone(
    onset_s: float,
    lag_s: float,
    window_s: float,
    exclude: tuple[float, float],
    tolerance_s: float | None,
) -> None:
    run = counting_run("r", clips(["a", "b", "c", "d"], onset_s=onset_s, duration_s=15.0), n=70)
    (features,) = run_features([run], features=TrMeanSpec(window_s=window_s))
    choice = WindowChoice(exclude_s=exclude, tolerance_s=tolerance_s)
    rows = choose_windows([features], lag_s=lag_s, choice=choice)
    slack = TR_S / 2 if tolerance_s is None else tolerance_s + 1e-5
    found = set()
    for window, event in zip(rows.window[:, 0], rows.event[:, 0], strict=True):
        clip = run.events[event]
        start = features.t_start_s[window] - lag_s - clip.onset_s
        assert start >= exclude[0] - slack
        assert start + window_s <= clip.duration_s - exclude[1] + slack
        found.add((int(window), int(event)))
    assert len(found) == len(rows)
    # All that fit strictly are taken.
    for k, event in enumerate(run.events):
        start = features.t_start_s - lag_s - event.onset_s
        fits = (start >= exclude[0]) & (start + window_s <= event.duration_s - exclude[1])
        assert {(int(w), k) for w in np.flatnonzero(fits)} <= found
    assert np.all((rows.start_s >= 0) & (rows.stop_s <= 15.0 + 1e-9))


def test_no_window_spans_a_pause_or_two_clips_or_two_runs() -> None:
    events = [Event(0.0, 6.0, "a", "a"), Event(9.0, 6.0, "b", "b")]
    runs = [counting_run("1", events, n=12), counting_run("2", events, n=12)]
    features = run_features(runs, features=TrMeanSpec(window_s=3.0))
    samples = make_samples(
        features, lag_s=0.0, targets=classes(runs), choice=WindowChoice(tolerance_s=0.0)
    )
    assert samples.x.shape == (6, 2, 1)
    np.testing.assert_allclose(samples.x[:, 0, 0], [0.5, 1.5, 2.5, 6.5, 7.5, 8.5])
    np.testing.assert_array_equal(samples.x[:, 0], samples.x[:, 1])


def test_repetitions_are_a_dimension_also_across_runs_and_sessions() -> None:
    runs = [
        counting_run("1", clips(["a", "b"]), session="s1", n=40),
        counting_run("1", clips(["b", "a", "b"]), session="s2", n=40),
    ]
    features = run_features(runs, features=TrMeanSpec(window_s=15.0))
    samples = make_samples(features, lag_s=3.0, targets=classes(runs))
    assert samples.clip.tolist() == ["a", "b"]
    assert samples.n_repetitions.tolist() == [2, 3]
    assert samples.session.tolist() == [["s1", "s2", ""], ["s1", "s2", "s2"]]
    assert np.isnan(samples.x[0, 2, 0])
    np.testing.assert_allclose(samples.x[1, :, 0], [16.5, 6.5, 26.5])
    for repeat, n in (("run", 4), ("never", 5)):
        choice = WindowChoice(repeat=repeat)  # type: ignore[arg-type]
        assert len(make_samples(features, lag_s=3.0, targets=classes(runs), choice=choice)) == n


def test_people_are_never_each_others_repetition() -> None:
    runs = [counting_run("1", clips(["a"]), n=30, person=p) for p in ("sub-001", "sub-002")]
    samples = make_samples(
        run_features(runs, features=TrMeanSpec(window_s=15.0)), lag_s=3.0, targets=classes(runs)
    )
    assert samples.person.tolist() == ["sub-001", "sub-002"]


@settings(max_examples=30, deadline=None)
@given(offset_s=st.floats(0.0, 3.0), lag_s=st.floats(0.0, 6.0))
def test_presentations_off_the_grid_of_volumes_are_matched_to_the_nearest_step(
    offset_s: float, lag_s: float
) -> None:
    runs = [
        counting_run("1", clips(["a"]), n=40),
        counting_run("2", clips(["a"], onset_s=offset_s), n=40),
    ]
    features = run_features(runs, features=TrMeanSpec(window_s=3.0))
    rows = choose_windows(features, lag_s=lag_s)
    for row in range(len(rows)):
        there = rows.run[row] >= 0
        if there.sum() == 2:
            times = [
                features[r].t_start_s[w] - lag_s - features[r].run.events[0].onset_s
                for r, w in zip(rows.run[row], rows.window[row], strict=True)
            ]
            assert abs(times[0] - times[1]) <= TR_S / 2 + 1e-6
    assert (rows.run >= 0).all(axis=1).sum() >= len(rows) - 2


def test_windows_are_thinned_and_edges_left_out_when_asked_for() -> None:
    run = counting_run("1", clips(["a", "b"]), n=40)
    features = run_features([run], features=TrMeanSpec(window_s=1.5))
    every = make_samples(features, lag_s=0.0, targets=classes([run]))
    some = make_samples(features, lag_s=0.0, targets=classes([run]), choice=WindowChoice(hop_s=3.0))
    np.testing.assert_array_equal(some.x, every.x[::2])
    inner = make_samples(
        features, lag_s=0.0, targets=classes([run]), choice=WindowChoice(exclude_s=(3.0, 3.0))
    )
    assert inner.start_s.min() >= 3.0
    assert inner.stop_s.max() <= 12.0
    middle = make_samples(
        features, lag_s=0.0, targets=classes([run]), choice=WindowChoice(choose="clip")
    )
    np.testing.assert_allclose(middle.start_s + 0.75, 7.5, atol=0.76)


@pytest.mark.parametrize("align", ["start", "stop"])
def test_the_target_stretch_may_be_shorter_than_the_window(align: str) -> None:
    run = counting_run("1", clips(["a"], duration_s=15.0), n=40)
    choice = WindowChoice(stretch_s=5.0, align=align)  # type: ignore[arg-type]
    samples = make_samples(
        run_features([run], features=TrMeanSpec(window_s=5.0)),  # 4 volumes: 6 s
        lag_s=0.0,
        targets=classes([run]),
        choice=choice,
    )
    np.testing.assert_allclose(samples.stop_s - samples.start_s, 5.0)
    shift = 0.0 if align == "start" else 1.0
    np.testing.assert_allclose(samples.start_s, np.arange(7) * 1.5 + shift)


def test_delayed_volumes_answer_to_the_stretch_that_ends_a_lag_before_the_last() -> None:
    run = counting_run("1", clips(["a"], duration_s=15.0), n=40)
    samples = make_samples(
        run_features([run], features=TrMeanSpec(window_s=1.5, n_delays=4)),
        lag_s=7.5,
        targets=classes([run]),
    )
    assert samples.x.shape == (10, 1, 4)
    # The first stretch is [0, 1.5]; volumes 2, 3, 4, 5 begin 3 to 7.5 s after it begins.
    np.testing.assert_array_equal(samples.x[0, 0], [2, 3, 4, 5])
    np.testing.assert_allclose(samples.start_s, np.arange(10) * 1.5)


def eeg_run(n: int, seed: int) -> Run:
    rng = np.random.default_rng(seed)
    signal = (1e-5 * rng.standard_normal((n, 4))).astype(np.float32)
    return Run("sub-01", "", "1", "", signal, 100.0, np.arange(n) / 100.0, ())


@pytest.mark.parametrize(
    "spec",
    [
        TrMeanSpec(window_s=0.05, n_delays=2),
        PsdSpec(window_s=1.0, hop_s=0.1),
        SampleSpec(rate_hz=50.0),
    ],
)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_features_of_a_run_are_what_runs_live_in_any_chunks(spec: FeatureSpec, seed: int) -> None:
    run = eeg_run(400, seed)
    standardise = StandardiseSpec(prior_n=5, forget_n=20, learn="mean")
    raw = run_features([run], features=spec)
    mean, std = training_statistics(raw, standardise)
    (ours,) = standardise_runs(raw, standardise, mean=mean, std=std)
    extractor = make_extractor(spec, sfreq_hz=100.0, n_channels=4)
    live = Standardiser(standardise, mean, std)
    rng = np.random.default_rng(seed)
    rows: list[NDArray[np.float32]] = []
    at = 0
    while at < len(run.signal):
        n = int(rng.integers(0, 50))
        rows += [live.push(f.values) for f in extractor.push(run.signal[at : at + n])]
        at += n
    np.testing.assert_allclose(np.array(rows), ours.values, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(ours.values, live_batch(spec, run, standardise, mean, std))


def live_batch(
    spec: FeatureSpec,
    run: Run,
    standardise: StandardiseSpec,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
) -> NDArray[np.float32]:
    _, _, values = batch_features(spec, run.signal, sfreq_hz=run.sfreq_hz)
    live = Standardiser(standardise, mean, std)
    return np.array([live.push(row) for row in values])


def test_windows_that_are_not_finite_are_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = counting_run("1", clips(["a", "b", "a"]), n=40)
    run.signal[5] = np.nan
    features = run_features([run], features=TrMeanSpec(window_s=15.0))
    samples = make_samples(features, lag_s=0.0, targets=classes([run]))
    assert samples.n_repetitions.tolist() == [1, 1]
    assert samples.x[0, 0, 0] == 24.5
    assert "1 windows" in caplog.text


def test_offline_standardisation_is_done_once() -> None:
    brain = TinyBrain(0)
    runs = brain.runs(2, 6)
    spec = StandardiseSpec(mode="offline")
    cleaned = run_features(
        runs, features=TrMeanSpec(), preprocess=PreprocessSpec(median_window_s=60)
    )
    assert all(run.zscored for run in cleaned)
    assert standardise_runs(cleaned, spec)[0] is cleaned[0]
    plain = standardise_runs(run_features(runs, features=TrMeanSpec()), spec)
    np.testing.assert_allclose(plain[0].values.std(axis=0), 1.0, atol=1e-5)


def test_statistics_are_those_of_all_training_windows_together() -> None:
    features = run_features(TinyBrain(1).runs(3, 4), features=TrMeanSpec())
    every = np.concatenate([run.values for run in features]).astype(np.float64)
    mean, std = training_statistics(features)
    np.testing.assert_allclose(mean, every.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(std, every.std(axis=0), rtol=1e-6)


def test_statistics_for_a_learning_standardiser_do_not_count_the_baselines_of_runs() -> None:
    runs = TinyBrain(2).runs(3, 8)
    moved = [
        Run(r.participant, "", r.run, "", r.signal + 500.0 * k, r.sfreq_hz, r.stamps_s, r.events)
        for k, r in enumerate(runs)
    ]
    spec = StandardiseSpec(prior_n=1, forget_n=60, learn="mean")
    _, still = training_statistics(run_features(runs, features=TrMeanSpec()), spec)
    _, std = training_statistics(run_features(moved, features=TrMeanSpec()), spec)
    _, pooled = training_statistics(run_features(moved, features=TrMeanSpec()))
    np.testing.assert_allclose(std, still, rtol=0.3)
    assert np.all(pooled > 10 * std)


def one_clip() -> tuple[RunFeatures, ...]:
    run = counting_run("1", clips(["a"]), n=20)
    return run_features([run], features=TrMeanSpec(window_s=30.0))


def test_what_cannot_be_made_is_said() -> None:
    features = one_clip()
    targets = classes([features[0].run])
    with pytest.raises(SettingError, match=r"No window of 30 s.*clips last 14.99"):
        make_samples(features, lag_s=0.0, targets=targets)
    silent = run_features([counting_run("1", [], n=20)], features=TrMeanSpec())
    with pytest.raises(SettingError, match="no events"):
        make_samples(silent, lag_s=0.0, targets=targets)
    with pytest.raises(SettingError, match="a lag"):
        make_samples(features, lag_s=float("nan"), targets=targets)
    with pytest.raises(SettingError, match="training_statistics"):
        standardise_runs(features, StandardiseSpec())
    with pytest.raises(SettingError, match="no"):
        training_statistics([])
    with pytest.raises(SettingError, match="shortest"):
        run_features([], features=TrMeanSpec(), shortest=0.0)
    with pytest.raises(SettingError, match="same columns"):
        run_features([eeg_run(10, 0), counting_run("1", [])], features=TrMeanSpec())
    for bad in ({"hop_s": -1.0}, {"choose": "best"}, {"stretch_s": 0.0}, {"exclude_s": (1.0,)}):
        with pytest.raises(SettingError):
            WindowChoice(**bad)

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from calibration.demo import demo_bundle
from calibration.demo_recipes import DemoRecipe
from calibration.embedding import MEL_STATISTICS_NAME, MelStatistics, mel_statistics
from calibration.fit_direct import fit_direct, predict_mel, score_direct
from calibration.listener_eeg import EegListener
from calibration.make_demo_bundles import make_bold_bundle, make_eeg_bundle
from calibration.runs import Run, clip_at, run_windows
from calibration.stimuli import LABELS, make_stimulus, stimulus_sequence
from export.bundle import load_bundle
from export.library import Library
from export.manifest import RetrievalChain
from models.errors import SettingError
from models.mel import MelSpec, log_mel
from models.ridge.folds import fold_numbers
from models.ridge.shared import fit_shared, ridge_predictions
from models.spec import SampleSpec

_FEATURES = SampleSpec(high_pass_hz=0.05, low_pass_hz=8.0, rate_hz=25.0, past_s=0.4, hop_s=0.04)


def test_folds_never_split_a_clip_and_keep_neighbours_together() -> None:
    groups = np.repeat([3, 5, 8, 9, 12, 20], [4, 1, 7, 2, 2, 3])
    fold = fold_numbers(len(groups), 3, groups=groups, neighbours_together=True)
    for group in np.unique(groups):
        assert len(np.unique(fold[groups == group])) == 1
    assert np.all(np.diff(fold) >= 0)
    with pytest.raises(SettingError, match="2 to 6 folds"):
        fold_numbers(len(groups), 7, groups=groups, neighbours_together=True)


def test_ridge_with_chosen_penalty_equals_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 8))
    y = x @ rng.standard_normal((8, 3)) + 0.5 * rng.standard_normal((60, 3)) + 2.0
    groups = np.repeat(np.arange(12), 5)
    fit = fit_shared(x, y, groups, alphas=(0.1, 1.0, 10.0))
    xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
    weights = np.linalg.solve(xc.T @ xc + fit.alpha * np.eye(8), xc.T @ yc)
    np.testing.assert_allclose(fit.weights, weights, atol=1e-10)
    np.testing.assert_allclose(
        fit.predict(x), yc.mean(axis=0) + y.mean(axis=0) + xc @ weights, atol=1e-10
    )
    # What a fold is predicted to be does not depend on that fold.
    fold = fold_numbers(len(groups), 5, groups=groups, neighbours_together=True)
    again = ridge_predictions(x[fold != 2], y[fold != 2], x[fold == 2], alphas=[fit.alpha])[0]
    np.testing.assert_allclose(fit.held_out[fold == 2], again, atol=1e-10)


def test_windows_of_a_run_lie_where_its_clips_are() -> None:
    sequence = stimulus_sequence(1, 6.0, clip_s=2.0)
    run = Run(np.zeros((1500, 2), np.float32), 250.0, sequence)
    windows = run_windows(run, _FEATURES)
    np.testing.assert_allclose(np.diff(windows.t_stop), 0.04, atol=1e-9)
    stretch = windows.stretch(0.2, 0.04)
    np.testing.assert_allclose(stretch[:, 1], windows.t_stop - 0.2)
    np.testing.assert_array_equal(
        clip_at(sequence, np.array([-0.1, 0.0, 1.99, 2.0, 5.9, 6.0])), [-1, 0, 0, 1, 2, -1]
    )


def test_a_fit_without_noise_finds_the_spectrum_and_one_without_signal_nothing() -> None:
    train, test, other = (
        stimulus_sequence(s, t, clip_s=2.0) for s, t in ((1, 90), (2, 24), (3, 24))
    )

    def scores(snr_db: float) -> dict[str, float]:
        listener = EegListener(1, snr_db)
        runs = [Run(listener.record(q.pcm, seed=9), 250.0, q) for q in (train, test, other)]
        fit = fit_direct(
            runs[:1], features=_FEATURES, frames_per_window=4, lags_s=(0.3,), alphas=(1e2, 1e4)
        )
        decoded, truth = predict_mel(fit, runs[1])
        assert decoded.shape == truth.shape
        return score_direct(fit, runs[1], runs[2])

    clear, silent = scores(20.0), scores(-np.inf)
    assert clear["identification"] > 0.9
    assert clear["mel_r"] > 0.35
    # 12 segments: one score at chance has a standard error of about 0.09.
    assert abs(silent["identification"] - 0.5) < 0.27
    assert abs(silent["mel_r"]) < 0.25


def test_the_embedding_has_unit_length_and_tells_classes_apart() -> None:
    train = [make_stimulus(label, k, 2.4) for label in LABELS for k in range(3)]
    test = [make_stimulus(label, k, 2.4) for label in LABELS for k in range(50, 53)]
    embedding = MelStatistics.fit([sound.pcm for sound in train])
    vectors = np.array([embedding.embed(sound.pcm) for sound in train])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    nearest = [train[int(np.argmax(vectors @ embedding.embed(s.pcm)))].label for s in test]
    assert np.mean([a == s.label for a, s in zip(nearest, test, strict=True)]) > 0.8
    mel = log_mel(train[0].pcm, MelSpec())
    np.testing.assert_array_equal(
        mel_statistics(train[0].pcm), mel_statistics(train[0].pcm, mel=mel)
    )
    with pytest.raises(SettingError, match=r"needs 0\.1 s"):
        mel_statistics(np.zeros(600, np.float32))


def test_the_shipped_bundles_are_whole_small_and_say_how_well_they_do() -> None:
    total = 0
    for modality in ("eeg", "fmri"):
        bundle = load_bundle(demo_bundle("eeg" if modality == "eeg" else "fmri"))
        total += sum(path.stat().st_size for path in bundle.path.iterdir())
        held_out = bundle.manifest.scores["held_out"]
        assert held_out["chance"] == 0.5
        assert held_out["identification"] > 0.85
        assert held_out["identification"] < 1.0
        assert abs(held_out["identification_other_sound"] - 0.5) < 0.15
        if isinstance(bundle.manifest.chain, RetrievalChain):
            assert bundle.manifest.chain.embedding.name == MEL_STATISTICS_NAME
    assert total < 6_000_000


def test_the_library_of_the_shipped_bundle_is_made_of_other_sounds_than_the_demo() -> None:
    library = Library(load_bundle(demo_bundle("fmri")))
    played = {item.name for item in library.items}
    for seed in range(3):
        heard = {clip.stimulus.name for clip in stimulus_sequence(seed, 105.0, clip_s=7.5).clips}
        assert not heard & played


def test_the_embeddings_of_the_shipped_library_can_be_had_from_its_sounds() -> None:
    library = Library(load_bundle(demo_bundle("fmri")))
    sounds = [library.sound(k) for k in range(len(library))]
    embedding = MelStatistics.fit(sounds)
    again = np.array([embedding.embed(sound) for sound in sounds])
    # 16-bit sound against the float sound that it was made from.
    assert np.min(np.sum(again * library.embeddings, axis=1)) > 0.999


@pytest.mark.slow
def test_the_script_makes_the_shipped_bundles_again(tmp_path: Path) -> None:
    seed = load_bundle(demo_bundle("eeg")).manifest.scores["seed"]
    for name, make in (("eeg", make_eeg_bundle), ("fmri", make_bold_bundle)):
        shipped = demo_bundle("eeg" if name == "eeg" else "fmri")
        made = make(tmp_path / name, seed=seed)
        ours, theirs = (json.loads((p / "manifest.json").read_text()) for p in (made.path, shipped))
        assert ours["lag_s"] == theirs["lag_s"]
        assert made.manifest.features == load_bundle(shipped).manifest.features
        for key, value in theirs["scores"]["held_out"].items():
            assert ours["scores"]["held_out"][key] == pytest.approx(value, abs=0.03), key
        # Sounds are arithmetic in float64 and rounded to 16 bits: the same on every machine but
        # for a last bit; weights depend on the order in which BLAS adds up.
        np.testing.assert_allclose(made.mean, load_bundle(shipped).mean, rtol=1e-3, atol=1e-7)


def test_a_recipe_and_a_seed_give_the_same_bundle_twice(tmp_path: Path) -> None:
    recipe = DemoRecipe(snr_db=0.0, clip_s=1.5, train_s=24.0, test_s=8.0)
    digests = []
    for name in ("one", "two"):
        bundle = make_eeg_bundle(tmp_path / name, seed=5, recipe=recipe)
        files = sorted(path for path in bundle.path.iterdir())
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert digests[0] == digests[1]

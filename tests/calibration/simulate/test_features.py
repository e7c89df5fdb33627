"""The embedding that drives simulated brains: that of the sounds, or of nothing but chance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.embedding import MelStatistics
from calibration.simulate.features import STEP_S, clip_features, clip_sound
from calibration.simulate.runs import simulation
from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import plan_runs
from models.errors import SettingError
from models.mel import MelSpec, log_mel

SHORT = SimulationSettings(
    timetable="short", clip_s=3.0, n_runs=(2, 1), clips_per_run=8, n_test_clips=4, latent_dim=6
)


def test_vectors_are_the_mel_statistics_of_windows_standardised_over_training_clips() -> None:
    runs = plan_runs(SHORT)
    features = clip_features(SHORT, runs)
    train = [clip for run in runs[:2] for clip in run.clips]
    embedding = MelStatistics.fit([clip_sound(clip) for clip in train])
    np.testing.assert_allclose(features.standard, [embedding.mean, embedding.scale])
    clip = runs[2].clips[1]
    mel = log_mel(clip_sound(clip), MelSpec())
    row = features.values[features.clips.index(clip.id)]
    assert row.shape == (6, 96)
    # Step 3 is around 1.75 s: 1.0 to 2.5 s; step 0 loses what would lie before the clip.
    for step, window in ((3, slice(100, 250)), (0, slice(0, 100))):
        wanted = embedding.embed(clip_sound(clip), mel[window])
        np.testing.assert_allclose(row[step], wanted, atol=2e-5)


def test_latent_dimensions_have_unit_variance_and_do_not_correlate() -> None:
    features = simulation(SHORT).features
    assert features is not None
    train = [features.clips.index(c.id) for run in plan_runs(SHORT)[:2] for c in run.clips]
    latent = features.latent[train].reshape(-1, 6)
    np.testing.assert_allclose(np.cov(latent.T, ddof=0), np.eye(6), atol=1e-4)


def test_random_vectors_remember_and_differ_between_clips_as_told() -> None:
    settings = SimulationSettings(embedding="latent", embedding_dim=4, latent_dim=4)
    features = simulation(settings).features
    assert features is not None
    values = features.values * np.sqrt(np.arange(1, 5))  # to equal variances
    own = values.mean(axis=1)
    assert np.var(values) == pytest.approx(1.5, rel=0.1)
    walk = values - own[:, None]
    # OU: variance 0.5 about a mean that itself varies; neighbours correlate exp(-0.25).
    step = np.diff(values, axis=1)
    assert np.var(step) == pytest.approx(2 * 0.5 * (1 - np.exp(-STEP_S / 2.0)), rel=0.05)
    assert np.var(walk) < 0.5


def test_any_embedder_can_drive_a_brain() -> None:
    class Level:
        name = "level"

        def embed(self, pcm: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
            assert sample_rate_hz == 16_000
            half = len(pcm) // 2
            return np.array([np.sqrt(np.mean(pcm[:half] ** 2)), np.abs(pcm[half:]).max()])

    runs = plan_runs(SHORT)
    settings = SimulationSettings(**{**SHORT.to_dict(), "regions": SHORT.regions, "latent_dim": 2})
    features = clip_features(settings, runs, embedder=Level())
    assert features.name == "level"
    assert features.values.shape == (20, 6, 2)
    pcm = clip_sound(runs[0].clips[0])[16_000:40_000]
    row = features.values[features.clips.index(runs[0].clips[0].id), 3]
    np.testing.assert_allclose(row, Level().embed(pcm, 16_000))
    with pytest.raises(SettingError, match="2 directions"):
        clip_features(SHORT, runs, embedder=Level())


def test_the_embedding_of_a_stretch_is_the_mean_of_what_lies_in_it() -> None:
    features = simulation(SHORT).features
    assert features is not None
    clip = features.clips[2]
    np.testing.assert_allclose(
        features.of(clip, 0.5, 1.5), features.values[2, 1:3].mean(axis=0), rtol=1e-6
    )
    with pytest.raises(SettingError, match="no vector"):
        features.of(clip, 3.0, 4.0)
    with pytest.raises(SettingError, match="elephant"):
        features.of("elephant", 0.0, 1.0)

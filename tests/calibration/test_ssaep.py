from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.scores import area_under_curve
from calibration.ssaep import (
    SSAEP_SOUNDS,
    fit_bundle,
    report_ssaep,
    session_paths,
    steady_sound,
)
from calibration.trials import (
    Trials,
    choose_and_fit,
    leave_one_session_out,
    read_trials,
    trial_windows,
)
from export.library import Library
from models.errors import FileError, SettingError
from models.spec import PsdSpec

_SPECS = {
    taper: PsdSpec(
        method="periodogram",
        window_s=1.0,
        hop_s=1.0,
        taper=taper,
        detrend="linear",
        fmin_hz=30.0,
        fmax_hz=50.0,
    )
    for taper in ("hann", "boxcar")
}


def _sessions(n: int, amplitude: float, *, seed: int = 0) -> list[Trials]:
    """Return sessions of two channels in 1/f-free noise, with 45 or 40 Hz during the sounds."""
    rng = np.random.default_rng(seed)
    sessions = []
    for k in range(n):
        samples = rng.standard_normal((256 * 60, 2))
        onsets = np.linspace(1.0, 55.0, 16)
        codes = rng.permutation(np.repeat([1, 2], 8))
        t = np.arange(256 * 3) / 256.0
        for onset, code in zip(onsets, codes, strict=True):
            first = round(onset * 256)
            wave = amplitude * np.sin(2 * np.pi * (45.0 if code == 1 else 40.018) * t)
            samples[first : first + len(t), 0] += wave
        sessions.append(
            Trials(f"s{k}", samples.astype(np.float32), ("A", "B"), 256.0, onsets, codes, 3.0)
        )
    return sessions


def test_the_sounds_pulse_and_carry_what_they_say() -> None:
    for sound in SSAEP_SOUNDS.values():
        pcm = steady_sound(sound).astype(np.float64)
        assert pcm.shape == (48_000,)
        power = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), 4 * len(pcm))) ** 2
        hz = np.fft.rfftfreq(4 * len(pcm), 1 / 16_000)
        assert hz[np.argmax(power)] == pytest.approx(sound.carrier_hz, abs=0.2)
        envelope = np.abs(pcm)
        spectrum = np.abs(
            np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(pcm)), 8 * len(pcm))
        )
        low = np.fft.rfftfreq(8 * len(pcm), 1 / 16_000)
        band = (low > 20) & (low < 60)
        assert low[band][np.argmax(spectrum[band])] == pytest.approx(sound.modulation_hz, abs=0.1)


def test_leaving_one_session_out_is_sure_with_a_signal_and_at_chance_without() -> None:
    clear = leave_one_session_out(_sessions(3, 0.5), _SPECS, n_permutations=40, stop_s=2.9)
    assert clear.mean_auc > 0.9
    assert clear.n_trials == 48
    assert clear.n_windows == 96
    assert clear.null.mean() == pytest.approx(0.5, abs=0.05)
    assert clear.null.max() < clear.mean_auc
    silent = [
        leave_one_session_out(_sessions(3, 0.0, seed=s), _SPECS, stop_s=2.9).mean_auc
        for s in range(1, 6)
    ]
    assert abs(np.mean(silent) - 0.5) < 2 * np.std(clear.null) / np.sqrt(5) + 0.02


def test_the_fast_way_over_all_permutations_equals_one_fit_at_a_time() -> None:
    sessions = _sessions(3, 0.15)
    fast = leave_one_session_out(sessions, _SPECS, stop_s=2.9)
    candidates = {name: trial_windows(sessions, s, stop_s=2.9) for name, s in _SPECS.items()}
    some = candidates["hann"]
    positive = some.codes == 1
    for left_out in range(3):
        rows = some.session != left_out
        target = np.where(positive, 1.0, -1.0)[:, None]
        name, fit, mean, std = choose_and_fit(candidates, rows, target)
        x = (candidates[name].values[~rows] - mean) / std
        auc = area_under_curve(fit.predict(x)[:, 0], positive[~rows])
        assert fast.auc[left_out] == pytest.approx(auc, abs=1e-9)
        assert fast.chosen[left_out] == (name, fit.alpha)


def test_trials_need_markers_and_sessions_need_company(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    rows = "\n".join(f"{k / 256:.6f},{k % 7 - 3},{k % 5 - 2},0" for k in range(1, 600))
    path.write_text("timestamps,TP9,TP10,Marker0\n" + rows + "\n")
    with pytest.raises(FileError, match="none of the markers"):
        read_trials(path, sound_s=1.0)
    with pytest.raises(SettingError, match=r"2 or more \.csv files"):
        session_paths(tmp_path)
    with pytest.raises(SettingError, match="Two sounds in 2 or more sessions"):
        leave_one_session_out(_sessions(1, 0.1), _SPECS)


@pytest.mark.data
def test_real_sessions_are_told_apart_and_shuffled_ones_are_not() -> None:
    from tests.data import shared

    report = report_ssaep(shared("eeg_ssaep"), n_permutations=50)
    auc = {row["window_s"]: row["auc"] for row in report["windows"]}
    assert auc[0.5] > 0.7
    assert auc[1.0] > 0.9
    assert auc[2.6] > 0.9
    for row in report["windows"]:
        assert row["permutation_p"] == pytest.approx(1 / 51, abs=1e-3)
        assert row["floor_shuffled"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.data
def test_a_bundle_fitted_on_real_sessions_has_the_two_sounds(tmp_path: Path) -> None:
    from tests.data import shared

    bundle = fit_bundle(session_paths(shared("eeg_ssaep"))[:3], tmp_path / "bundle")
    library = Library(bundle)
    assert [item.label for item in library.items] == ["1", "2"]
    assert bundle.manifest.input.channels == ("TP9", "AF7", "AF8", "TP10", "Right AUX")
    assert bundle.manifest.scores["cross_validated_r"] > 0.5

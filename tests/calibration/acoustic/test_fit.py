from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from calibration.acoustic.fit import fit_acoustic, inner_split
from calibration.acoustic.scores import score_tokens, shuffled_rows
from calibration.acoustic.settings import AcousticSettings, paper_settings
from export.runtime import open_runner
from models.errors import SettingError
from tests.calibration.acoustic.brain import Windows, make_windows

_SMALL = AcousticSettings(
    base="ridge",
    feature_noise=0.0,
    steps=60,
    batch=16,
    rate=2e-3,
    warmup=5,
    average=0.9,
    width=48,
    heads=3,
    encoder_layers=1,
    decoder_layers=1,
    feedforward=64,
    dropout=0.0,
    n_features=30,
    rank=12,
    token_rank=24,
    check_every=10,
    patience=3,
)


@pytest.fixture(scope="module")
def windows() -> Windows:
    return make_windows()


@pytest.fixture(scope="module")
def new() -> Windows:
    return make_windows(seed=1, n_clips=12)


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    # The exporter logs each of its thoughts for a file that nobody asked for.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)


@pytest.mark.parametrize(
    ("method", "brain"),
    [("ridge", "components"), ("transformer", "components"), ("transformer", "features")],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_both_methods_beat_mean_tokens_and_a_shuffled_brain_and_run_the_same_without_torch(
    method: Literal["ridge", "transformer"],
    brain: Literal["features", "components"],
    windows: Windows,
    new: Windows,
    tmp_path: Path,
) -> None:
    settings = replace(_SMALL, method=method, brain=brain)
    decoder = fit_acoustic(
        windows.samples,
        windows.tokens,
        windows.decoded,
        windows.samples.clip,
        settings,
        true_embeddings=windows.true,
        seed=3,
    )
    assert decoder.shape == (16, 768)
    assert decoder.steps == 2
    assert decoder.scores["held_out_error"] < 0.9
    x = new.samples.mean_x()
    rows = shuffled_rows(new.samples.clip, np.random.default_rng(0))
    scores = score_tokens(
        {
            "decoder": decoder.predict(x, new.decoded),
            "shuffled brain": decoder.predict(x[rows], new.decoded[rows]),
        },
        new.tokens,
        new.samples.clip,
        mean=decoder.mean,
    )
    own, other = scores["decoder"], scores["shuffled brain"]
    assert own.error < 0.85 < 1.0 == pytest.approx(scores["mean tokens"].error)
    assert other.error > 1.0
    assert own.identification > 0.9
    assert abs(other.identification - 0.5) < 0.2
    assert scores["mean tokens"].identification == 0.5
    assert own.place[1] > 0.4 > other.place[1] + 0.2
    file = tmp_path / "acoustic.onnx"
    assert decoder.export_onnx(file) <= 1e-5
    assert b".py" not in file.read_bytes()  # nothing of the machine that it was made on
    made = open_runner(file).run({"features": x[:1], "embedding": new.decoded[:1]})
    assert made["tokens"].dtype == np.float32
    np.testing.assert_allclose(made["tokens"], decoder.predict(x[:1], new.decoded[:1]), atol=1e-4)


def test_a_stopped_training_resumes_to_the_same_weights(windows: Windows, tmp_path: Path) -> None:
    from threading import Event

    settings = replace(_SMALL, steps=24, patience=20)

    class AfterSome(Event):
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 15

    def fit(folder: Path, *, stop: Event | None = None, resume: bool = False):  # type: ignore[no-untyped-def]
        return fit_acoustic(
            windows.samples,
            windows.tokens,
            windows.decoded,
            windows.samples.clip,
            settings,
            true_embeddings=windows.true,
            folder=folder,
            stop=stop,
            resume=resume,
        )

    through = fit(tmp_path / "a")
    fit(tmp_path / "b", stop=AfterSome())
    resumed = fit(tmp_path / "b", resume=True)
    assert resumed.curve == through.curve
    x = windows.samples.mean_x()[:3]
    np.testing.assert_array_equal(
        resumed.predict(x, windows.decoded[:3]), through.predict(x, windows.decoded[:3])
    )


def test_from_noise_nothing_worse_than_the_mean_tokens_is_learnt(windows: Windows) -> None:
    rng = np.random.default_rng(5)
    n = len(windows.samples)
    noise = rng.standard_normal((n, 512))
    decoder = fit_acoustic(
        replace(windows.samples, x=rng.standard_normal((n, 1, 40)).astype(np.float32)),
        windows.tokens,
        noise / np.linalg.norm(noise, axis=1, keepdims=True),
        windows.samples.clip,
        replace(_SMALL, steps=40, p_gt=0.0, base="mean", brain="features"),
    )
    assert decoder.scores["held_out_error"] <= 1.0 + 1e-6


def test_a_kept_network_opens_again(windows: Windows, tmp_path: Path) -> None:
    from calibration.acoustic.transformer import TransformerEngine, load_acoustic

    decoder = fit_acoustic(
        windows.samples,
        windows.tokens,
        windows.decoded,
        windows.samples.clip,
        replace(_SMALL, steps=3, p_gt=0.0),
        folder=tmp_path,
    )
    network, settings = load_acoustic(tmp_path)
    assert settings == replace(_SMALL, steps=3, p_gt=0.0)
    x = windows.samples.mean_x()[:3]
    np.testing.assert_array_equal(
        TransformerEngine(network).predict(x, windows.decoded[:3]),
        decoder.predict(x, windows.decoded[:3]),
    )


def test_selection_never_divides_a_group(windows: Windows) -> None:
    train, check = inner_split(windows.samples, windows.samples.clip, _SMALL)
    assert not set(windows.samples.clip[train]) & set(windows.samples.clip[check])
    assert len(train) + len(check) == len(windows.samples)
    assert len(check) == pytest.approx(0.15 * len(windows.samples), abs=4)


def test_true_embeddings_are_refused(windows: Windows) -> None:
    with pytest.raises(SettingError, match="are the true ones"):
        fit_acoustic(
            windows.samples,
            windows.tokens,
            windows.true,
            windows.samples.clip,
            _SMALL,
            true_embeddings=windows.true,
        )


def test_embeddings_that_are_not_of_unit_length_are_refused(windows: Windows) -> None:
    with pytest.raises(SettingError, match="of length 1"):
        fit_acoustic(
            windows.samples, windows.tokens, 2 * windows.decoded, windows.samples.clip, _SMALL
        )


def test_p_gt_without_true_embeddings_is_refused(windows: Windows) -> None:
    with pytest.raises(SettingError, match="p_gt"):
        fit_acoustic(windows.samples, windows.tokens, windows.decoded, windows.samples.clip, _SMALL)


def test_tokens_of_another_shape_are_refused(windows: Windows) -> None:
    with pytest.raises(SettingError, match="8 m, 768"):
        fit_acoustic(
            windows.samples, windows.tokens[:, :7], windows.decoded, windows.samples.clip, _SMALL
        )


def test_two_groups_are_too_few(windows: Windows) -> None:
    with pytest.raises(SettingError, match="3 groups"):
        fit_acoustic(
            windows.samples,
            windows.tokens,
            windows.decoded,
            np.arange(len(windows.samples)) % 2,
            replace(_SMALL, p_gt=0.0),
        )


def test_the_paper_sizes() -> None:
    from calibration.acoustic.network import AcousticTransformer

    settings = paper_settings(n_windows=4800, epochs=40)
    assert (settings.steps, settings.batch, settings.p_gt) == (24_000, 8, 0.25)
    network = AcousticTransformer(settings, n_features=900, n_chosen=768, places=80)
    layer = 4 * 768 * 769 + 2 * 768 * 3072 + 3072 + 768 + 4 * 768  # attention, map, two norms
    crossed = layer + 4 * 768 * 769 + 2 * 768
    rest = 512 * 768 + 768 + 768 * 769 + 4 * 768 + 80 * 768 + 768 * 769
    assert sum(p.numel() for p in network.parameters()) == 4 * layer + 4 * crossed + rest


@pytest.mark.parametrize(
    "values",
    [
        {"width": 50},
        {"p_gt": 1.5},
        {"held_out": 0.0},
        {"penalties": ()},
        {"mel_weight": -1.0},
        {"brain": "components", "base": "mean"},
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(SettingError):
        replace(_SMALL, **values)  # type: ignore[arg-type]

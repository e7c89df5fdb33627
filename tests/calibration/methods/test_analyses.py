"""Components of weights, regions, partitions and labels left out: each against a known truth."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from calibration.data.samples import Samples
from calibration.methods.clips import clip_identification
from calibration.methods.encoding import encode_samples
from calibration.methods.genre_out import leave_label_out
from calibration.methods.partition import partition_embeddings
from calibration.methods.pca import weight_components
from calibration.methods.rois import compare_rois
from calibration.scores import correlations, identification
from calibration.simulate import SimulationSettings, default_regions
from calibration.simulate.anatomy import head
from models.errors import SettingError
from models.ridge.estimator import Ridge
from tests.calibration.methods.people import person_samples

LISTENER = SimulationSettings(
    embedding="latent",
    timetable="short",
    n_people=2,
    n_runs=(10, 4),
    clips_per_run=16,
    n_test_clips=16,
    snr=0.6,
    latent_dim=3,
    regions=default_regions(n_informative=2, n_uninformative=2, n_voxels=20),
    n_other_voxels=20,
)
ALPHAS = (1.0, 10.0, 100.0)


def ridge() -> Ridge:
    return Ridge(ALPHAS)


def samples(x: np.ndarray, y: np.ndarray, clip: np.ndarray, label: np.ndarray) -> Samples:
    n = len(x)
    one = np.full((n, 1), "1")
    return Samples(
        x=x[:, None].astype(np.float32), y=y, clip=clip, label=label, start_s=np.zeros(n),
        stop_s=np.ones(n), person=np.full(n, "p"), session=one, run=one,
        previous_clip=np.full(n, ""), order=np.arange(n, dtype=float),
    )  # fmt: skip


def test_components_are_those_of_scikit_learn_on_everybodys_best_voxels() -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((6, 40)) for name in ("a", "b")}
    r = {name: rng.random(40) for name in weights}
    found = weight_components(weights, r, n_top=15, n_components=3)
    best = {name: np.argsort(-r[name])[:15] for name in weights}
    stacked = np.concatenate([weights[name].T[best[name]] for name in weights])
    other = PCA(3).fit(stacked)
    np.testing.assert_allclose(found.explained, other.explained_variance_ratio_)
    np.testing.assert_allclose(np.abs(found.components), np.abs(other.components_), atol=1e-9)
    scores = np.concatenate([found.scores[name] for name in weights])
    np.testing.assert_allclose(np.abs(scores), np.abs(other.transform(stacked)), atol=1e-9)
    assert np.all(np.max(found.components, axis=1) == np.max(np.abs(found.components), axis=1))
    with pytest.raises(SettingError, match="of the same people"):
        weight_components(weights, {"a": r["a"]})


def test_brains_that_share_three_dimensions_show_three_components() -> None:
    models = {}
    for k in range(2):
        train, test = person_samples(replace(LISTENER, snr=3.0), k)
        models[f"sub-{k + 1:02d}"] = encode_samples(
            train, test, rng=np.random.default_rng(k), n_permutations=10
        )
    found = weight_components(
        {name: model.weights for name, model in models.items()},
        {name: model.r for name, model in models.items()},
        n_top=30,
        n_components=4,
    )
    assert found.explained[:3].sum() > 0.9
    assert found.explained[2] > 3 * found.explained[3]
    assert all(values[:3].min() > 0.7 for values in found.shared.values())
    assert json.loads(json.dumps(found.to_json()))["n_voxels"] == {"sub-01": 30, "sub-02": 30}


def test_the_embedding_that_drives_a_region_is_found_to_explain_it() -> None:
    train, test = person_samples(LISTENER)
    rng = np.random.default_rng(0)
    rois = head(LISTENER).rois
    spaces = {
        "true": (train.y, test.y),
        "other": (rng.standard_normal((len(train), 8)), rng.standard_normal((len(test), 8))),
    }
    found = compare_rois(
        spaces, train.x[:, 0], test.x, rois={**rois, "empty": []}, rng=rng, n_permutations=99
    )
    assert found.rois == tuple(rois)
    assert found.mean_r[0, :2].min() > 0.25
    assert np.abs(found.mean_r[1]).max() < 0.2
    assert {found.best()[name] for name in list(rois)[:2]} == {"true"}
    assert found.ceiling is not None
    assert found.ceiling[:2].min() > 0.4
    assert len(found.to_json()["rows"]) == 8
    with pytest.raises(SettingError, match="name voxels"):
        compare_rois(spaces, train.x[:, 0], test.x, rois={"a": [10_000]}, rng=rng)


def test_shares_of_audio_and_text_are_those_that_were_put_in() -> None:
    rng = np.random.default_rng(0)
    n, n_voxels = 300, 12
    both, audio_only, text_only = (rng.standard_normal((n, 2)) for _ in range(3))
    audio = np.concatenate([both, audio_only], axis=1)
    text = 40 * np.concatenate([both, text_only], axis=1)
    y = np.stack([both[:, 0]] * 4 + [audio_only[:, 0]] * 4 + [text_only[:, 0]] * 4, axis=1)
    y = y + 0.5 * rng.standard_normal((n, n_voxels))
    found = partition_embeddings(
        {"audio": audio, "text": text}, y, rois={"shared": np.arange(4)}, cv=3, inner_cv=3,
        alphas=(0.1, 1.0, 10.0), n_candidates=8,
    )  # fmt: skip
    true = 1 / 1.25
    np.testing.assert_allclose(found.union.mean(), true, atol=0.03)
    np.testing.assert_allclose(found.unique("audio")[4:8].mean(), true, atol=0.05)
    np.testing.assert_allclose(found.unique("text")[8:].mean(), true, atol=0.05)
    np.testing.assert_allclose(found.shares[("audio", "text")][:4].mean(), true, atol=0.05)
    told = json.loads(json.dumps(found.to_json()))
    assert told["shared"]["n_voxels"] == 4
    np.testing.assert_allclose(
        sum(told["all voxels"]["shares"].values()), told["all voxels"]["union"], atol=1e-9
    )
    with pytest.raises(SettingError, match="2 or more embeddings"):
        partition_embeddings({"audio": audio}, y)


def test_a_label_with_dimensions_of_its_own_is_lost_when_left_out_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["rock", "jazz", "pop", "folk"], 40)
    y = 0.01 * rng.standard_normal((160, 12))
    own = labels == "jazz"
    y[own, 8:] += rng.standard_normal((40, 4))  # nobody else varies here
    y[~own, :8] += rng.standard_normal((120, 8))
    x = y @ rng.standard_normal((12, 30)) + 0.3 * rng.standard_normal((160, 30))
    everything = samples(x, y, np.array([f"c{k:03d}" for k in range(160)]), labels)
    test = np.arange(160) % 4 == 0
    found = leave_label_out(everything.take(~test), everything.take(test), decoder=ridge, rng=rng)
    at = found.labels.index("jazz")
    assert found.without[at] < found.control[at] - 0.1
    assert found.control[at] > 0.9
    rest = [k for k in range(4) if k != at]
    assert all(abs(found.without[k] - found.full[k]) < 0.05 for k in rest)
    assert found.n_clips == (10, 10, 10, 10)
    assert found.mean("without") == pytest.approx(np.mean(found.without))
    assert json.loads(json.dumps(found.to_json()))["mean_control"] > 0.9


def test_labels_that_cannot_be_left_out_are_told() -> None:
    train, test = person_samples(LISTENER)
    rng = np.random.default_rng(0)
    with pytest.raises(SettingError, match="Clips are in training and test"):
        leave_label_out(train, train, decoder=ridge, rng=rng)
    with pytest.raises(SettingError, match="missing: \\['polka'\\]"):
        leave_label_out(train, test, decoder=ridge, rng=rng, labels=["polka"])


def test_clips_are_identified_by_the_mean_of_their_windows_among_all_clips() -> None:
    rng = np.random.default_rng(0)
    clip = np.repeat(["a", "b", "c"], 2)
    y = np.repeat(rng.standard_normal((3, 5)), 2, axis=0)
    rows = samples(rng.standard_normal((6, 2)), y, clip, clip)
    guess = y + rng.standard_normal((6, 5))
    means = guess.reshape(3, 2, 5).mean(axis=1)
    wanted = identification(correlations(means, y[::2]))
    assert clip_identification(guess, rows) == pytest.approx(wanted.ties_half)
    of = clip_identification(guess, rows, of=clip == "b")
    assert of == pytest.approx(wanted.each[1])
    assert clip_identification(np.zeros((6, 5)), rows) == 0.5

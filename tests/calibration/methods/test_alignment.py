"""Alignment: people rotated against each other come together, inside the training part only."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from calibration.data.samples import Samples
from calibration.methods.alignment import Pooling, align_people, shared_rows
from calibration.methods.clips import clip_identification
from calibration.methods.new_person import first_minutes, new_person_curve
from calibration.simulate import SimulationSettings, default_regions
from models.errors import SettingError
from models.ridge.estimator import Ridge
from tests.calibration.methods.people import person_samples

ALPHAS = tuple(float(10.0**k) for k in range(0, 7))
PEOPLE = SimulationSettings(
    embedding="latent",
    timetable="short",
    n_people=4,
    n_runs=(20, 4),
    clips_per_run=16,
    n_test_clips=20,
    snr=0.3,
    embedding_dim=64,
    latent_dim=8,
    regions=default_regions(n_informative=3, n_uninformative=2, n_voxels=20),
    n_other_voxels=30,
)


def ridge() -> Ridge:
    return Ridge(ALPHAS)


@pytest.fixture(scope="module")
def people() -> list[tuple[Samples, Samples]]:
    return [person_samples(PEOPLE, k) for k in range(4)]


@pytest.mark.slow
def test_a_quarter_of_the_data_reaches_95_percent_with_others_and_all_of_it_loses_nothing() -> None:
    shares, gains, gaps = [], [], []
    for seed in range(6):  # five people, as in ds003720
        settings = replace(PEOPLE, seed=seed, n_people=5)
        everybody = [person_samples(settings, k) for k in range(5)]
        (own, test), others = everybody[0], [train for train, _ in everybody[1:]]
        minutes = len(own) * 6.0 / 60
        curve = new_person_curve(
            own, test, others, minutes=[minutes / 4], decoder=ridge, how="joint",
            n_dims=PEOPLE.latent_dim,
        )  # fmt: skip
        shares.append(curve.aligned[0] / curve.full_own)
        gains.append(curve.aligned[0] - curve.own[0])
        gaps.append(curve.full_aligned - curve.full_own)
    assert np.mean(shares) >= 0.95
    assert np.mean(gains) > 0.0  # .012 +- .009 over these seeds: little at this SNR
    assert np.mean(gaps) >= -0.01


@pytest.mark.parametrize("how", ["stack", "average", "joint"])
def test_others_say_in_my_voxels_what_they_heard(
    how: Pooling, people: list[tuple[Samples, Samples]]
) -> None:
    (own, test), others = people[0], [train for train, _ in people[1:]]
    some = first_minutes(own, 16.0)
    made = align_people(some, others, held_out=set(test.clip.tolist()), how=how)
    assert made.n_own == len(some)
    n = len(own)
    assert len(made.samples) - len(some) == {"stack": 3 * n, "average": n, "joint": n}[how]
    assert min(made.r.values()) > 0.05
    # A decoder that saw nothing but the others decodes me.
    rows = made.samples.take(np.arange(made.n_own, len(made.samples)))
    centre = rows.y.mean(axis=0)
    fit = ridge().fit(rows.x[:, 0], rows.y - centre, rows.clip)
    assert clip_identification(fit.predict(test.mean_x()) + centre, test, centre=centre) > 0.7


def test_what_a_map_was_learnt_on_is_replaced_by_what_folds_held_out(
    people: list[tuple[Samples, Samples]],
) -> None:
    """Noise of two people has nothing in common, and nothing common may be found."""
    rng = np.random.default_rng(0)
    one, two = (
        replace(train, x=rng.standard_normal(train.x.shape).astype(np.float32))
        for train, _ in people[:2]
    )
    some = first_minutes(one, 10.0)
    made = align_people(some, [two], alphas=(100.0,))
    at, there = shared_rows(some.separate(), two.separate())
    mapped = made.samples.x[made.n_own + there, 0]
    r = np.corrcoef(mapped.ravel(), some.x[at, 0].ravel())[0, 1]
    assert abs(r) < 0.02
    assert abs(made.r["sub-02"]) < 0.02


def test_clips_of_the_test_are_nobodys_training_rows(
    people: list[tuple[Samples, Samples]],
) -> None:
    (own, _), (other, _) = people[:2]
    names = list(dict.fromkeys(own.clip.tolist()))
    some = own.take(np.isin(own.clip, names[:80]))
    made = align_people(some, [other], held_out=set(names[200:]))
    assert not set(made.samples.clip.tolist()) & set(names[200:])
    with pytest.raises(SettingError, match="held out are among"):
        align_people(own, [other], held_out=names[:1])
    with pytest.raises(SettingError, match="nothing but the clips"):
        align_people(some, [other.take(np.isin(other.clip, names[200:]))], held_out=names[200:])


def test_too_few_shared_clips_and_wrong_settings_are_told(
    people: list[tuple[Samples, Samples]],
) -> None:
    (own, test), (other, _) = people[:2]
    with pytest.raises(SettingError, match="share 0 clips"):
        align_people(test, [other])
    with pytest.raises(SettingError, match="how to be one of"):
        align_people(own, [other], how="mean")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="one other person"):
        align_people(own, [])
    with pytest.raises(SettingError, match="no whole clip"):
        first_minutes(own, 0.01)


def test_a_stretch_is_paired_with_the_nearest_of_its_clip_and_repetitions_take_turns() -> None:
    def rows(clips: list[str], starts: list[float]) -> Samples:
        n = len(clips)
        names = np.array(clips)
        return Samples(
            x=np.zeros((n, 1, 2), np.float32), y=np.zeros((n, 1)), clip=names, label=names,
            start_s=np.array(starts), stop_s=np.array(starts) + 4.0, person=names,
            session=names[:, None], run=names[:, None], previous_clip=names,
            order=np.arange(n, dtype=float),
        )  # fmt: skip

    mine = rows(["a", "a", "b", "c", "a"], [0.0, 4.0, 0.0, 0.0, 0.0])
    other = rows(["a", "a", "a", "b", "d"], [0.5, 4.2, 0.5, 2.0, 0.0])
    at, there = shared_rows(mine, other)
    assert list(zip(at.tolist(), there.tolist(), strict=True)) == [(0, 0), (1, 1), (4, 2)]


def test_the_first_minutes_are_whole_clips_in_the_order_of_time(
    people: list[tuple[Samples, Samples]],
) -> None:
    own = people[0][0]
    mixed = own.take(np.random.default_rng(0).permutation(len(own)))
    some = first_minutes(mixed, 1.0)
    assert set(some.clip.tolist()) == set(own.clip[np.argsort(own.order)][:10].tolist())


def test_the_curve_says_what_was_done(people: list[tuple[Samples, Samples]]) -> None:
    (own, test), (other, _) = people[:2]
    curve = new_person_curve(own, test, [other], minutes=[4.0, 8.0], decoder=ridge)
    told = json.loads(json.dumps(curve.to_json()))
    assert (told["person"], told["with_people"]) == ("sub-01", ["sub-02"])
    assert told["minutes"] == [4.0, 8.0]
    assert told["full_minutes"] == 32.0
    assert all(0.5 < score <= 1.0 for score in (*curve.own, curve.full_own, curve.full_aligned))
    assert replace(curve, aligned=(0.1, 0.99)).minutes_to_reach() == 8.0
    assert replace(curve, aligned=(0.1, 0.2)).minutes_to_reach() is None

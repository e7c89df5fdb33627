"""Stamps of changes, by themselves and in a stream that really plays."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from models.errors import SettingError
from models.stretch import GeneratorInput
from stream.bench.cli import bench
from stream.bench.compute import time_changes, time_stretches, warm_up
from stream.bench.run import BenchSettings
from stream.bench.running import RING_S, _handed_at, run_stream
from stream.bench.subject import Subject
from stream.messages import Played
from tests.stream.generators import ToneGenerator, pitched


def subject() -> Subject:
    tone = ToneGenerator()
    return Subject(tone, "tone", 1, "cpu", ("NumPy",), lambda _: None, "there are none")


CONDITIONS = [GeneratorInput(vector=pitched(hz)) for hz in (300.0, 500.0, 900.0)]


def test_stamps_of_a_change_follow_each_other() -> None:
    rng = np.random.default_rng(0)
    warm_up(subject(), CONDITIONS, n_frames=4, seconds=0.0)
    times = time_changes(subject(), CONDITIONS, n_frames=4, n=7, rng=rng)
    assert len(times.sink) == len(times.stretch) == 7
    assert not times.latent
    for started, waveform, sink in zip(times.started, times.waveform, times.sink, strict=True):
        assert 0.0 <= started <= waveform <= sink
    assert set(times.stamps()) == {"stretch_start", "waveform", "first_sample"}
    assert len(time_stretches(subject(), CONDITIONS, n_frames=8, n=3, rng=rng)) == 3


def test_a_running_stream_hears_its_changes_in_order() -> None:
    rng = np.random.default_rng(1)
    run = run_stream(
        subject(), CONDITIONS, n_frames=4, n=4, seconds=None, rng=rng, changed_after_s=0.2
    )
    assert 1 <= len(run.sink) <= 4
    assert len(run.changed) <= len(run.sink)
    for started, waveform, sink in zip(run.started, run.waveform, run.sink, strict=True):
        assert 0.0 <= started <= waveform <= sink
    # The sample that differs lies .2 s into the sound, in the stretch after the first one.
    for sink, changed in zip(run.sink, run.changed, strict=False):
        assert changed > sink
    assert run.seconds > 0.0


def test_a_stream_needs_an_end_and_a_ring() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(SettingError, match="give one"):
        run_stream(subject(), CONDITIONS, n_frames=4, n=None, seconds=None, rng=rng)
    with pytest.raises(SettingError, match="ring"):
        run_stream(subject(), CONDITIONS, n_frames=4, n=1, seconds=None, rng=rng, ring_s=0.001)


def test_samples_are_found_in_the_block_that_took_them() -> None:
    heard = [
        Played(-1, 0.0, 30, 0),  # silence
        Played(0, 0.0, 50, 0),
        Played(1, 0.0, 20, 0),
        Played(1, 0.0, 60, 20),
    ]
    handed = [1.0, 2.0, 3.0, 4.0]
    at = _handed_at(heard, handed, sink_block=40)
    assert at(0, 0) == 1.0  # rendered as sample 30
    assert at(0, 10) == 2.0
    assert at(1, 0) == 3.0  # sample 80
    assert at(1, 79) == 4.0
    assert np.isnan(at(1, 80))
    assert np.isnan(at(2, 0))


def test_the_command_fills_the_ring_as_the_measurement_does() -> None:
    ring = inspect.signature(bench).parameters["ring_s"].default
    assert ring == RING_S == BenchSettings(Path()).ring_s

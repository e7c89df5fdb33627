"""What a session sends back over LSL, received by plain inlets."""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import numpy as np
import pylsl
import pytest

from stream.lsl import clock, configure, resolve
from stream.messages import Condition, FeatureWindow
from stream.outlets import Outlets
from tests.export.bundles import direct_parts, retrieval_parts
from tests.integration.broker import wait_until

pytestmark = pytest.mark.lsl


class Inlet:
    """A plain pylsl inlet that keeps what comes."""

    def __init__(self, name: str) -> None:
        configure()
        self._inlet = pylsl.StreamInlet(resolve(name, timeout_s=30.0))
        self.info = self._inlet.info(30.0)
        self._inlet.open_stream(30.0)
        self.samples: list[Any] = []
        self.stamps: list[float] = []

    def has(self, n: int) -> bool:
        samples, stamps = self._inlet.pull_chunk(timeout=0.0)
        self.samples.extend(samples)
        self.stamps.extend(stamps)
        return len(self.stamps) >= n

    def wait_for(self, n: int) -> None:
        assert wait_until(lambda: self.has(n)), f"{len(self.stamps)} of {n} samples came"

    def labels(self) -> list[str]:
        channel = self.info.desc().child("channels").child("channel")
        found = []
        while not channel.empty():
            found.append(channel.child_value("label"))
            channel = channel.next_sibling("channel")
        return found

    def close(self) -> None:
        self._inlet.close_stream()


@pytest.fixture
def session() -> str:
    return f"s-{uuid.uuid4()}"


def condition(values: Any, seq: int = 0, t_stop: float = 1.0) -> Condition:
    window = FeatureWindow(np.zeros(1, np.float32), seq, 0, 1, t_stop - 1.0, t_stop)
    return Condition(np.asarray(values, np.float32), window, 3, 0.5)


def test_what_is_decoded_is_received_with_its_brain_time(session: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20, 6)).astype(np.float32)
    stamps = clock() - np.arange(20)[::-1] * 0.25
    chain = retrieval_parts().manifest.chain
    with Outlets(session, chain, bundle="d" * 64, lag_s=0.2) as outlets:
        decoded, feedback = Inlet(f"{session}-decoded"), Inlet(f"{session}-feedback")
        for seq in range(20):
            outlets.condition(condition(values[seq], seq, stamps[seq]))
            outlets.feedback(seq / 20, stamps[seq])
        decoded.wait_for(20)
        feedback.wait_for(20)
    np.testing.assert_array_equal(np.array(decoded.samples, np.float32), values)
    np.testing.assert_allclose(np.ravel(feedback.samples), np.arange(20) / 20, atol=1e-7)
    np.testing.assert_array_equal(decoded.stamps, stamps)
    np.testing.assert_array_equal(feedback.stamps, stamps)
    assert decoded.info.type() == "Embedding"
    assert decoded.info.nominal_srate() == 0.0
    assert decoded.labels() == [f"test{i}" for i in range(6)]
    ours = decoded.info.desc().child("hearback")
    assert ours.child_value("bundle") == "d" * 64
    assert ours.child_value("stamps") == "window stop"
    assert float(ours.child_value("lag_s")) == 0.2
    for inlet in (decoded, feedback):
        inlet.close()


def test_mel_frames_are_sent_frame_by_frame(session: str) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with Outlets(session, direct_parts().manifest.chain) as outlets:
        decoded = Inlet(f"{session}-decoded")
        outlets.condition(condition(values))
        decoded.wait_for(1)
        assert decoded.info.type() == "Mel"
        assert decoded.info.desc().child("hearback").child_value("shape") == "3 4"
        assert decoded.labels()[5] == "frame1.mel1"
        np.testing.assert_array_equal(decoded.samples[0], values.ravel())
        decoded.close()


def test_markers_are_json_at_the_time_they_tell_of(session: str) -> None:
    with Outlets(session, direct_parts().manifest.chain) as outlets:
        markers = Inlet(f"{session}-markers")
        outlets.marker("gap", 12.5, {"n_lost": 3, "t_stop": math.nan})
        markers.wait_for(1)
        assert json.loads(markers.samples[0][0]) == {
            "kind": "gap",
            "detail": {"n_lost": 3, "t_stop": None},
        }
        assert markers.stamps == [12.5]
        markers.close()


def test_before_the_start_and_after_the_end_nothing_is_sent(session: str) -> None:
    outlets = Outlets(session, direct_parts().manifest.chain)
    outlets.feedback(0.5, 1.0)
    outlets.start()
    outlets.close()
    outlets.close()
    outlets.condition(condition(np.zeros((3, 4))))
    outlets.marker("end", 1.0)
    assert (outlets.n_decoded, outlets.n_feedback, outlets.n_markers) == (0, 0, 0)

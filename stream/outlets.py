"""What a session sends back over LSL: what was decoded, the feedback value, and markers.

==========================  ==========  ========  ==============================================
name                        type        channels  one sample
==========================  ==========  ========  ==============================================
``<session>-decoded``       Embedding   dim       the embedding (unit length) of a window
``<session>-decoded``       Mel         frames x  ln mel of a window, frame by frame
                                        bands
``<session>-feedback``      Feedback    1         the feedback value in [0, 1]
``<session>-markers``       Markers     1         a JSON object, as in the MQTT topic `event`
==========================  ==========  ========  ==============================================

A sample of the first two is stamped with the brain time that it tells of: the end of its window,
not the moment of sending. Rates are irregular (0), since windows are left out when the decoder is
late. ``desc/hearback`` says which bundle it was (`bundle`, a sha256), `shape`, `lag_s` and
``stamps="window stop"``. The source id holds the session's name, so a recorder finds a session that
was started again under the same name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from export.manifest import ChainSpec, DirectChain
from stream.json_lines import finite
from stream.messages import Condition
from stream.mqtt_address import check_session_name
from stream.sender import MarkerSender

__all__ = ["Outlets"]

# liblsl keeps so many seconds for a consumer that stalls, counted as 100 samples a second for an
# irregular stream: 6,000 windows.
_BUFFERED_S = 60
_LINGER_S = 0.5


class Outlets:
    """The LSL outlets of a session; every call after `start` is cheap and never waits.

    Parameters
    ----------
    session_name : str
        Letters, digits, '.', '_' and '-'; part of all names.
    spec : ChainSpec
        The chain of the bundle's manifest.
    bundle : str
        Digest of the bundle.
    lag_s : float
        Brain after stimulus, s.

    Raises
    ------
    SettingError
        If the session's name has other characters.
    """

    def __init__(
        self, session_name: str, spec: ChainSpec, *, bundle: str = "", lag_s: float = 0.0
    ) -> None:
        self.session_name = check_session_name(session_name)
        self._spec = spec
        self._about = {"bundle": bundle, "lag_s": repr(lag_s), "stamps": "window stop"}
        self._decoded: Any = None
        self._feedback: Any = None
        self._markers: MarkerSender | None = None
        self.n_decoded = self.n_feedback = self.n_markers = 0

    def start(self) -> None:
        """Open the outlets."""
        from stream.lsl import configure

        configure()
        spec = self._spec
        if isinstance(spec, DirectChain):
            kind, shape = "Mel", (spec.frames_per_window, spec.mel.n_mels)
            labels = [f"frame{i}.mel{j}" for i in range(shape[0]) for j in range(shape[1])]
            unit = "ln"
        else:
            kind, shape = "Embedding", (1, spec.embedding.dim)
            labels = [f"{spec.embedding.name}{i}" for i in range(spec.embedding.dim)]
            unit = "none"
        about = self._about | {"shape": f"{shape[0]} {shape[1]}"}
        self._decoded = self._open("decoded", kind, labels, unit, about)
        self._feedback = self._open("feedback", "Feedback", ["feedback"], "none", self._about)
        name = f"{self.session_name}-markers"
        self._markers = MarkerSender(name, source_id=f"hearback-{name}")

    def condition(self, condition: Condition) -> None:
        """Send what a window was decoded to."""
        if self._decoded is not None:
            values = np.ascontiguousarray(condition.values, np.float32).reshape(1, -1)
            self._decoded.push_chunk(values, condition.window.t_stop)
            self.n_decoded += 1

    def feedback(self, value: float, t_stop: float) -> None:
        """Send the feedback value of a window that ended at `t_stop`."""
        if self._feedback is not None:
            self._feedback.push_chunk(np.array([[value]], np.float32), t_stop)
            self.n_feedback += 1

    def marker(self, kind: str, t: float, detail: Mapping[str, Any] | None = None) -> None:
        """Send a marker: a gap, a state, a command, the start, the end."""
        if self._markers is not None:
            values = {"kind": kind, "detail": dict(detail or {})}
            text = json.dumps(finite(values), allow_nan=False, separators=(",", ":"))
            self._markers.push(text, t)
            self.n_markers += 1

    def close(self) -> None:
        """End the outlets, after giving who listens a moment to take what was sent."""
        outlets = [outlet for outlet in (self._decoded, self._feedback) if outlet is not None]
        markers, self._markers = self._markers, None
        self._decoded = self._feedback = None
        deadline = time.monotonic() + _LINGER_S
        while time.monotonic() < deadline and any(o.have_consumers() for o in outlets):
            time.sleep(0.02)
        if markers is not None:
            markers.close(linger_s=max(0.0, deadline - time.monotonic()))
        outlets.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(
        self, what: str, kind: str, labels: list[str], unit: str, about: Mapping[str, str]
    ) -> Any:
        import pylsl

        name = f"{self.session_name}-{what}"
        info = pylsl.StreamInfo(
            name, kind, len(labels), pylsl.IRREGULAR_RATE, pylsl.cf_float32, f"hearback-{name}"
        )
        channels = info.desc().append_child("channels")
        for label in labels:
            channel = channels.append_child("channel")
            channel.append_child_value("label", label)
            channel.append_child_value("unit", unit)
            channel.append_child_value("type", kind)
        ours = info.desc().append_child("hearback")
        ours.append_child_value("version", "1")
        for key, value in about.items():
            ours.append_child_value(key, value)
        return pylsl.StreamOutlet(info, 0, _BUFFERED_S)

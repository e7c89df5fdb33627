"""An LSL outlet that says what it sends and counts it, and one for markers.

Every stream of ours carries an extra last channel, `counter`: the index of the sample in the
recording, modulo 2**24 (whole numbers up to there are exact in float32). A receiver can so account
for every sample, whatever the network, a stalled consumer or a dead sender did.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from stream.source_info import COUNTER_LABEL, COUNTER_MODULO, BoldInfo

__all__ = ["MarkerSender", "Sender", "StreamDescription", "linger"]

_QUEUE_S = 360.0  # liblsl's default for a consumer that stalls
_QUEUE_SAMPLES = 2_000_000  # it allocates a slot each, at once; a fast replay would take gigabytes
_LINGER_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class StreamDescription:
    """What a stream says about itself."""

    name: str
    type: str  # "EEG", "BOLD", ...
    labels: tuple[str, ...]  # without the counter
    sfreq_hz: float  # as it is sent: the recording's times the speed; 0: irregular
    source_id: str  # the same after a restart, another for another source
    unit: str = "V"
    units: tuple[str, ...] = ()  # one a channel, where they differ
    speed: float = 1.0
    recorded_sfreq_hz: float = 0.0  # 0: as sent
    first_index: int = 0
    bold: BoldInfo | None = None


class _Outlet:
    """What all that we send has in common: it counts, sees who listens, and ends in order."""

    def __init__(self, outlet: Any) -> None:
        self._outlet = outlet
        self.n_sent = 0

    def has_consumer(self) -> bool:
        """Tell whether anyone is connected."""
        return bool(self._outlet.have_consumers())

    def close(self, *, linger_s: float = _LINGER_S) -> None:
        """End the stream, after giving connected consumers time to take what was sent."""
        linger([self], linger_s=linger_s)
        self._outlet = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(linger_s=_LINGER_S if error is None else 0.0)


class Sender(_Outlet):
    """One signal on its way out over LSL, as float32.

    Parameters
    ----------
    description : StreamDescription

    Raises
    ------
    SettingError
        If the description has no channel.
    """

    def __init__(self, description: StreamDescription) -> None:
        import pylsl

        from stream.lsl import configure

        configure()
        if not description.labels:
            raise SettingError(f"Stream {description.name!r} needs at least one channel.")
        self.description = description
        self._n_channels = len(description.labels)
        info = pylsl.StreamInfo(
            description.name,
            description.type,
            self._n_channels + 1,
            description.sfreq_hz,
            pylsl.cf_float32,
            description.source_id,
        )
        _describe(info, description)
        super().__init__(pylsl.StreamOutlet(info, 0, _queue_s(description.sfreq_hz)))

    def push(
        self, samples: NDArray[np.float32], stamps: NDArray[np.float64], *, first: int
    ) -> None:
        """Send consecutive samples.

        Parameters
        ----------
        samples : array of shape (n, n_channels), float32
        stamps : array of shape (n,)
            Seconds on the LSL clock, each sent as it is.
        first : int
            Index of the first of them in the recording.
        """
        n = len(samples)
        if n == 0:
            return
        block = np.empty((n, self._n_channels + 1), dtype=np.float32)
        block[:, :-1] = samples
        block[:, -1] = np.arange(first, first + n) % COUNTER_MODULO
        # A stamp of exactly 0 would be replaced by the time of the push.
        self._outlet.push_chunk(block, stamps.tolist())
        self.n_sent += n

    def wait_for_consumer(self, timeout_s: float) -> bool:
        """Wait until someone is connected; return whether anyone is."""
        return bool(self._outlet.wait_for_consumers(timeout_s))


class MarkerSender(_Outlet):
    """Markers on their way out over LSL, as strings."""

    def __init__(self, name: str, *, source_id: str) -> None:
        import pylsl

        from stream.lsl import configure

        configure()
        self.name = name
        info = pylsl.StreamInfo(name, "Markers", 1, 0.0, pylsl.cf_string, source_id)
        super().__init__(pylsl.StreamOutlet(info))

    def push(self, text: str, stamp: float) -> None:
        """Send one marker with the time at which it happened."""
        self._outlet.push_sample([text], stamp)
        self.n_sent += 1


def linger(senders: Sequence[_Outlet], *, linger_s: float) -> None:
    """Wait until every consumer has gone, at most `linger_s`.

    liblsl has no way to ask whether all was taken; on one machine that is a matter of milliseconds.
    """
    deadline = time.monotonic() + linger_s
    while time.monotonic() < deadline and any(
        sender._outlet is not None and sender.has_consumer() for sender in senders
    ):
        time.sleep(0.02)


def _queue_s(sfreq_hz: float) -> int:
    if sfreq_hz <= 0:
        return int(_QUEUE_S)
    return max(1, int(min(_QUEUE_S, _QUEUE_SAMPLES / sfreq_hz)))


def _describe(info: Any, description: StreamDescription) -> None:
    desc = info.desc()
    channels = desc.append_child("channels")
    if description.bold is None:
        units = description.units or (description.unit,) * len(description.labels)
        for label, unit in zip(description.labels, units, strict=True):
            channel = channels.append_child("channel")
            channel.append_child_value("label", label)
            channel.append_child_value("unit", unit)
            channel.append_child_value("type", description.type)
    else:
        # Voxels have no names: an empty entry each keeps 65,000 of them within a megabyte.
        for _ in description.labels:
            channels.append_child("channel")
    counter = channels.append_child("channel")
    counter.append_child_value("label", COUNTER_LABEL)
    counter.append_child_value("unit", "count")
    counter.append_child_value("type", "Counter")
    ours = desc.append_child("hearback")
    ours.append_child_value("version", "1")
    ours.append_child_value("counts_samples", "true")
    ours.append_child_value("counter_modulo", str(COUNTER_MODULO))
    ours.append_child_value("speed", repr(description.speed))
    ours.append_child_value(
        "recorded_srate", repr(description.recorded_sfreq_hz or description.sfreq_hz)
    )
    ours.append_child_value("first_index", str(description.first_index))
    if description.bold is not None:
        bold = desc.append_child("bold")
        bold.append_child_value("shape", " ".join(str(size) for size in description.bold.shape))
        numbers = (repr(float(value)) for value in np.asarray(description.bold.affine).ravel())
        bold.append_child_value("affine", " ".join(numbers))
        bold.append_child_value("tr_s", repr(description.bold.tr_s))
        bold.append_child_value("mask_sha256", description.bold.mask_sha256)
        bold.append_child_value("n_voxels", str(len(description.labels)))
        bold.append_child_value("order", description.bold.order)

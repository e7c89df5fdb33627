"""Stream descriptions are foreign input: units, counters and volumes, well described and not."""

from __future__ import annotations

import logging
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SourceError
from stream.source_info import read_info, unit_scale


class _Info:
    """What `read_info` asks of a `pylsl.StreamInfo`, with a description of any kind."""

    def __init__(
        self,
        desc: str = "",
        *,
        n: int = 3,
        kind: str = "EEG",
        sfreq: float = 250.0,
        form: int = 1,
        name: str = "cap",
        xml: str | None = None,
    ) -> None:
        self._n, self._kind, self._sfreq, self._form, self._name = n, kind, sfreq, form, name
        self._xml = f"<info><desc>{desc}</desc></info>" if xml is None else xml

    def name(self) -> str:
        return self._name

    def type(self) -> str:
        return self._kind

    def channel_count(self) -> int:
        return self._n

    def nominal_srate(self) -> float:
        return self._sfreq

    def channel_format(self) -> int:
        return self._form

    def source_id(self) -> str:
        return "id"

    def hostname(self) -> str:
        return "here"

    def uid(self) -> str:
        return "uid"

    def as_xml(self) -> str:
        return self._xml


def _channels(*rows: tuple[str, str, str]) -> str:
    return (
        "<channels>"
        + "".join(
            f"<channel><label>{escape(label)}</label><unit>{escape(unit)}</unit>"
            f"<type>{escape(kind)}</type></channel>"
            for label, unit, kind in rows
        )
        + "</channels>"
    )


_BOLD = (
    "<bold><shape>2 3 4</shape><affine>3 0 0 1 0 3 0 2 0 0 3 4 0 0 0 1</affine>"
    "<tr_s>1.5</tr_s><n_voxels>3</n_voxels></bold>"
)


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("microvolts", 1e-6),
        ("uV", 1e-6),
        ("\N{MICRO SIGN}V", 1e-6),
        ("\N{GREEK SMALL LETTER MU}V", 1e-6),
        ("V", 1.0),
        ("volts", 1.0),
        ("mV", 1e-3),
        ("nV", 1e-9),
        (" Millivolts ", 1e-3),
        ("tesla", None),
        ("", None),
    ],
)
def test_units_of_voltage_become_volts(unit: str, scale: float | None) -> None:
    assert unit_scale(unit) == scale


def test_a_counter_is_taken_out_of_the_channels() -> None:
    rows = _channels(("Cz", "uV", "EEG"), ("Pz", "uV", "EEG"), ("counter", "count", "Counter"))
    info = read_info(_Info(rows))
    assert (info.n_channels, info.counter_channel, info.n_sent) == (2, 2, 3)
    assert (info.labels, info.scale, info.scales) == (("Cz", "Pz"), 1e-6, None)
    assert info.counter_modulo == 2**24
    assert info.described == "'cap' (EEG, 2 channels at 250 Hz)"


@pytest.mark.parametrize("last", [("counter", "", ""), ("Cz", "", "Counter"), ("a", "", "EEG")])
def test_only_a_channel_that_says_so_twice_is_a_counter(last: tuple[str, str, str]) -> None:
    rows = _channels(("Cz", "uV", "EEG"), ("Pz", "uV", "EEG"), last)
    assert read_info(_Info(rows)).counter_channel is None


def test_what_our_own_senders_say_is_read() -> None:
    desc = _channels(("Cz", "V", "EEG"), ("counter", "count", "Counter")) + (
        "<hearback><counter_modulo>512</counter_modulo><speed>2.5</speed>"
        "<recorded_srate>100</recorded_srate><first_index>7</first_index></hearback>"
    )
    info = read_info(_Info(desc, n=2))
    assert (info.counter_modulo, info.speed, info.recorded_sfreq_hz) == (512, 2.5, 100.0)
    assert info.first_index == 7


def test_mixed_units_get_a_scale_for_each_channel() -> None:
    rows = _channels(("Cz", "uV", "EEG"), ("Pz", "uV", "EEG"), ("x", "g", "ACC"))
    info = read_info(_Info(rows))
    assert (info.unit, info.scale) == ("uV", 1e-6)
    assert info.scales is not None
    np.testing.assert_array_equal(info.scales, [1e-6, 1e-6, 1.0])


def test_unknown_units_leave_the_values_alone() -> None:
    info = read_info(_Info(_channels(*[("a", "bananas", "EEG")] * 3)))
    assert (info.scale, info.unit_known) == (1.0, False)


def test_a_description_that_does_not_fit_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        info = read_info(_Info(_channels(("Cz", "uV", "EEG"))))
    assert info.labels == ("ch1", "ch2", "ch3")
    assert "describes 1 channels but sends 3" in caplog.text


def test_volumes_are_described() -> None:
    info = read_info(_Info(_BOLD, kind="BOLD", sfreq=1 / 1.5))
    assert info.bold is not None
    assert (info.bold.shape, info.bold.tr_s, info.scale) == ((2, 3, 4), 1.5, 1.0)
    np.testing.assert_array_equal(info.bold.affine[:3, 3], [1, 2, 4])
    assert info.labels == ()


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("2 3 4", "2 3", "shape"),
        ("2 3 4", "1 1 2", "more than a volume"),
        ("2 3 4", "2 3 4.5", "three sizes"),
        ("3 0 0 1", "nan 0 0 1", "affine"),
        ("3 0 0 1", "0 0 0 1", "millimetres"),
        ("<tr_s>1.5", "<tr_s>-1", "tr_s"),
        ("<tr_s>1.5", "<tr_s>soon", "tr_s"),
        ("<n_voxels>3", "<n_voxels>9", "9 voxels"),
        ("</bold>", "<mask_sha256>xyz</mask_sha256></bold>", "SHA-256"),
        ("</bold>", "<order>Z</order></bold>", "order"),
    ],
)
def test_damaged_volume_descriptions_are_refused(old: str, new: str, hint: str) -> None:
    with pytest.raises(SourceError, match=hint):
        read_info(_Info(_BOLD.replace(old, new), kind="BOLD"))


@pytest.mark.parametrize(
    ("info", "hint"),
    [
        (_Info(xml="<info><desc>"), "not XML"),
        (_Info(xml="<info>" + "x" * 2**26 + "</info>"), "characters"),
        (_Info(n=0), "0 channels"),
        (_Info(n=2_000_000), "channels"),
        (_Info(sfreq=float("nan")), "sampling rate"),
        (_Info(sfreq=-5.0), "sampling rate"),
        (_Info(form=0), "format"),
        (_Info(_channels(*[("a" * 300, "", "")] * 3)), "300 characters"),
        (_Info("<hearback><speed>0</speed></hearback>"), "speed"),
        (_Info("<hearback><speed>fast</speed></hearback>"), "speed is 'fast'"),
        (
            _Info(
                _channels(("a", "", ""), ("b", "", ""), ("counter", "", "Counter"))
                + "<hearback><counter_modulo>65536</counter_modulo></hearback>",
                form=5,
            ),
            "int16 counts exactly only up to 32768",
        ),
    ],
)
def test_damaged_descriptions_are_refused(info: _Info, hint: str) -> None:
    with pytest.raises(SourceError, match=hint):
        read_info(info)


def test_control_characters_do_not_reach_the_terminal() -> None:
    info = read_info(_Info(name="cap\x1b[2J\n"))
    assert info.name == "cap?[2J"


@given(xml=st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: raw.decode("latin-1")))
def test_no_description_makes_it_crash(xml: str) -> None:
    for text in (xml, f"<info><desc>{xml}</desc></info>"):
        try:
            read_info(_Info(xml=text))
        except SourceError:
            pass


@given(value=st.text(max_size=40))
def test_no_number_makes_it_crash(value: str) -> None:
    for tag in ("shape", "tr_s", "affine", "n_voxels"):
        start, stop = _BOLD.split(f"<{tag}>")[0], _BOLD.split(f"</{tag}>")[1]
        desc = f"{start}<{tag}>{escape(value)}</{tag}>{stop}"
        try:
            read_info(_Info(desc, kind="BOLD"))
        except SourceError:
            pass

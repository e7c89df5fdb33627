from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingError
from models.spec import (
    BandPowerSpec,
    FeatureSpec,
    PsdSpec,
    SampleSpec,
    TrMeanSpec,
    feature_spec_from_json,
    spec_to_json,
)

_positive = st.floats(0.01, 100.0)
_psd = st.builds(
    PsdSpec,
    method=st.sampled_from(["welch", "periodogram"]),
    window_s=_positive,
    hop_s=_positive,
    fmax_hz=st.one_of(_positive, st.just(float("inf"))),
    log10=st.booleans(),
)
_specs = st.one_of(
    _psd,
    st.builds(BandPowerSpec, psd=_psd, relative=st.booleans()),
    st.builds(SampleSpec, past_s=_positive),
    st.builds(TrMeanSpec, window_s=_positive, start_volume=st.integers(0, 10)),
)


@given(_specs)
def test_a_feature_specification_comes_back_from_strict_json(spec: FeatureSpec) -> None:
    text = json.dumps(spec_to_json(spec), allow_nan=False)
    assert feature_spec_from_json(json.loads(text)) == spec


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "psd", "windows_s": 4.0}, "windows_s"),
        ({"kind": "spectrogram"}, "spectrogram"),
        ({}, "Unknown feature kind"),
        ({"kind": "band_power", "psd": {"hops": 1}}, "hops"),
    ],
)
def test_an_unknown_entry_or_kind_is_refused_by_name(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        feature_spec_from_json(values)

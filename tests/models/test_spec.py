from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from models.spec import BandPowerSpec, PsdSpec, SampleSpec, TrMeanSpec, spec_to_json

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
def test_a_record_becomes_strict_json_that_says_its_kind(spec: Any) -> None:
    values = spec_to_json(spec)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["kind"] == spec.kind


def test_an_infinite_number_becomes_a_word_also_inside() -> None:
    assert spec_to_json(PsdSpec())["fmax_hz"] == "inf"
    assert spec_to_json(BandPowerSpec(PsdSpec()))["psd"]["fmax_hz"] == "inf"

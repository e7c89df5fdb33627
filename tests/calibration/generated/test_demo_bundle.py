"""Demo bundles with generated sound, on networks that have learnt nothing: all but the scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.demo_choice import DemoChain, choose_demo, demo_bundle, ships_generated
from calibration.demo_generated import decode_windows, render_run, score_generated_demo
from calibration.demo_recipes import BOLD
from calibration.demo_score import segments_of
from calibration.generated.demo_bundle import make_generated_bundle
from calibration.listener import ListenerSettings, simulate
from calibration.make_demo_bundles import main
from export.bundle import Bundle, load_bundle
from export.chains import CoarseToFineChain, SemanticChain
from models.errors import FileError, SettingError
from stream.chain import open_chain
from stream.messages import Condition

_SHORT = replace(BOLD, train_s=180.0, test_s=60.0)


@pytest.fixture(scope="module")
def bundles(generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both bundles."""
    folder = tmp_path_factory.mktemp("demo")
    for chain in ("semantic", "coarse-to-fine"):
        make_generated_bundle(
            folder / f"fmri-{chain}",
            seed=5,
            generator=generator,
            chain=chain,
            recipe=_SHORT,
            library_per_class=1,
            created="2026-01-01T00:00:00Z",
            software={},
        )
    return folder


@pytest.fixture(scope="module")
def semantic(bundles: Path) -> Bundle:
    return load_bundle(demo_bundle("semantic", bundles=bundles))


def _conditions(bundle: Bundle, seconds: float = 30.0) -> tuple[ListenerSettings, list[Condition]]:
    listener = ListenerSettings(modality="fmri", seconds=seconds, seed=3)
    return listener, decode_windows(bundle, open_chain(bundle), simulate(listener))


def test_the_bundles_say_their_chains_and_begin_from_noise(bundles: Path, semantic: Bundle) -> None:
    chain = semantic.manifest.chain
    assert isinstance(chain, SemanticChain)
    assert chain.embedding.dim == 512
    assert chain.start is not None
    assert chain.start.strength == 1.0
    assert semantic.manifest.scores["held_out"]["chance"] == 0.5
    fine = load_bundle(demo_bundle("coarse-to-fine", bundles=bundles)).manifest.chain
    assert isinstance(fine, CoarseToFineChain)
    assert fine.tokens.steps == 10  # 1.6 s of tokens for 1.5 s of sound
    # A generator of one's own judges its sound itself; no other is beside it.
    assert {"encoder.onnx", "judge.onnx"} <= semantic.manifest.files.keys()
    assert ships_generated(bundles=bundles)


def test_sound_lies_where_its_stimulus_does_and_is_the_same_each_time(semantic: Bundle) -> None:
    listener, conditions = _conditions(semantic)
    n = len(listener.sequence.pcm)
    pcm, known = render_run(open_chain(semantic), conditions, semantic, n_samples=n)
    again, _ = render_run(open_chain(semantic), conditions, semantic, n_samples=n)
    np.testing.assert_array_equal(pcm, again)
    assert np.isfinite(pcm).all()
    assert np.abs(pcm[known]).max() > 1e-4
    assert not pcm[~known].any()
    manifest = semantic.manifest
    last_s = conditions[-1].window.stop / manifest.input.sfreq_hz - manifest.lag_s
    assert np.flatnonzero(known)[-1] == pytest.approx(16_000 * last_s, abs=2_000)


def test_missing_windows_leave_silence_where_they_would_be(semantic: Bundle) -> None:
    listener, conditions = _conditions(semantic)
    n = len(listener.sequence.pcm)
    some = [c for c in conditions if not 6 <= c.window.seq < 10]
    _, whole = render_run(open_chain(semantic), conditions, semantic, n_samples=n)
    _, known = render_run(open_chain(semantic), some, semantic, n_samples=n)
    assert np.sum(whole & ~known) == pytest.approx(4 * 1.5 * 16_000, abs=2_000)


@pytest.mark.parametrize("chain", ["semantic", "coarse-to-fine"])
def test_the_demo_is_scored_in_every_way(bundles: Path, chain: DemoChain) -> None:
    bundle = load_bundle(demo_bundle(chain, bundles=bundles))
    listener, conditions = _conditions(bundle, seconds=45.0)
    opened, heard = open_chain(bundle), listener.sequence.pcm
    assert (conditions[0].tokens is not None) == (chain == "coarse-to-fine")
    played, known = render_run(opened, conditions, bundle, n_samples=len(heard))
    segments = segments_of(listener.sequence, known, segment_s=None, tail_s=2.0)
    said: list[str] = []
    made = score_generated_demo(
        bundle, opened, heard=heard, played=played, segments=segments, conditions=conditions,
        listener=listener, on_message=said.append,
    )  # fmt: skip
    assert made is not None
    values = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert 0.0 <= values["identification_started"] <= 1.0
    assert 0.0 <= values["floor_shuffled_started"] <= 1.0
    assert 0.0 <= values["identification_embedding"] <= 1.0
    assert 0.0 < made.direct.permutation_p <= 1.0
    assert values["judge"].startswith("generator-judge-")
    assert "begun from the nearest library sound" in made.told
    assert any("retrieved" in text for text in said)


def test_too_little_to_score_is_no_score(semantic: Bundle) -> None:
    listener, conditions = _conditions(semantic)
    nothing = np.zeros(10, np.float32)
    assert (
        score_generated_demo(
            semantic, open_chain(semantic), heard=nothing, played=nothing, segments=[(0, 5)],
            conditions=conditions, listener=listener,
        )
        is None
    )  # fmt: skip


def test_the_demo_that_is_meant_follows_from_what_there_is(bundles: Path, tmp_path: Path) -> None:
    assert choose_demo(None, None, bundles=bundles).chain == "semantic"
    assert choose_demo("fmri", None, bundles=bundles).chain == "semantic"
    assert choose_demo("eeg", None, bundles=bundles).chain == "direct"
    assert choose_demo(None, None, bundles=tmp_path).chain == "direct"
    assert choose_demo("fmri", None, bundles=tmp_path).chain == "retrieval"
    assert choose_demo(None, "coarse-to-fine").modality == "fmri"
    with pytest.raises(SettingError, match="is that of fMRI"):
        choose_demo("eeg", "semantic")
    with pytest.raises(SettingError, match="--chain is one of"):
        choose_demo(None, "vocoder")  # type: ignore[arg-type]
    with pytest.raises(FileError, match="--only fmri-semantic"):
        demo_bundle("semantic", bundles=tmp_path)


def test_a_script_without_a_generator_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--only", "fmri-semantic", "--generator", str(tmp_path), "--out", str(tmp_path)])
    assert left.value.code == FileError("").exit_code
    assert "holds no generator" in capsys.readouterr().err


@pytest.mark.skipif(not ships_generated(), reason="no generator ships yet")
def test_the_shipped_bundle_is_small_and_tells_more_than_its_control() -> None:
    bundle = load_bundle(demo_bundle("semantic"))
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) <= 25_000_000
    held_out = bundle.manifest.scores["held_out"]
    assert held_out["identification"] > 0.8
    assert abs(held_out["identification_other_sound"] - 0.5) < 0.15

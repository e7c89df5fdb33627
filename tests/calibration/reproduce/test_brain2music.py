from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from calibration.reproduce.cli import register
from calibration.reproduce.options import ReproduceOptions
from calibration.reproduce.run import reproduce
from models.errors import FileError
from tests.calibration.reproduce.layouts import REGIONS, music


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    root = tmp_path_factory.mktemp("music")
    data, atlas = music(root, n_runs=(1, 2))
    return data, root / "genres", atlas


@pytest.fixture(scope="module")
def page(written: tuple[Path, Path, Path]) -> dict[str, Any]:
    data, sounds, atlas = written
    options = ReproduceOptions(
        data=data, stimuli=sounds, labels=(atlas,), partial=True, alphas=(1e1, 1e3), n_folds=3,
        n_permutations=200, only=("decoding",), lag_s=4.5,
    )  # fmt: skip
    return reproduce("brain2music", options).to_json()


@pytest.fixture(scope="module")
def whole(
    written: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    data, sounds, atlas = written
    app = typer.Typer()
    register(app)
    app.command()(lambda: None)
    out = tmp_path_factory.mktemp("out")
    arguments = ["reproduce", "brain2music", "--data", data, "--stimuli", sounds, "--labels", atlas]
    arguments += ["--partial", "--permutations", "200", "--out", out, "--json"]
    done = CliRunner().invoke(app, [str(item) for item in arguments])
    assert done.exit_code == 0, done.output
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert json.loads((out / "reproduce-brain2music.json").read_text()) == values
    text = (out / "reproduce-brain2music.md").read_text()
    assert "| MuLan-music | identification test |" in text
    assert str(data) not in text
    return values


def rows(page: dict[str, Any], table: str) -> list[dict[str, Any]]:
    return [row for row in page["rows"] if row["table"] == table]


def test_a_brain_that_hears_is_decoded_and_the_embedding_is_named(page: dict[str, Any]) -> None:
    at = {
        (row["metric"], row["using"]): row
        for row in rows(page, "decoding")
        if row["ours"] is not None
    }
    fitted = next(row for (metric, using), row in at.items() if "given" in using)
    assert fitted["metric"] == "identification test"
    assert fitted["ours"] > 0.8
    assert fitted["paper"] == 0.876
    assert fitted["difference"] == pytest.approx(fitted["ours"] - 0.876)
    assert fitted["stamp"] == "not comparable"
    assert fitted["using"].startswith("mel-statistics, lag ")
    beside = fitted["controls"]
    assert beside["chance"] == 0.5
    assert beside["mean"] == pytest.approx(0.5)
    assert beside["p"] <= 0.01
    assert abs(beside["shuffled brain"] - 0.5) < 0.25
    assert beside["ceiling"] > 0.8


def test_without_a_lag_the_clip_before_shines_through(page: dict[str, Any]) -> None:
    before = {
        "none" in row["using"]: row["controls"]["clip before"]
        for row in rows(page, "decoding")
        if row["metric"] == "identification test" and row["ours"] is not None
    }
    assert before[True] > before[False]


@pytest.mark.slow
def test_the_score_at_every_lag_is_printed_negative_ones_too(whole: dict[str, Any]) -> None:
    sweep = {row["row"]: row["ours"] for row in rows(whole, "lag sweep")}
    assert len(sweep) == 12
    assert sweep["-4.5 s"] < sweep["+4.5 s"]


def test_scores_of_the_training_clips_are_stamped(page: dict[str, Any]) -> None:
    stamps = {
        row["metric"]: row["stamp"] for row in rows(page, "decoding") if row["ours"] is not None
    }
    assert stamps["identification train"] == stamps["correlation train"] == "leaky"


@pytest.mark.slow
def test_only_voxels_that_answer_are_predicted_by_the_sound(whole: dict[str, Any]) -> None:
    by_region = {row["row"]: row["ours"] for row in rows(whole, "encoding by region")}
    assert set(by_region) == set(REGIONS.values())
    assert by_region["heschl"] > 0.5 > abs(by_region["calcarine"])
    (found,) = [row for row in rows(whole, "encoding") if row["row"] == "MuLan-music"]
    assert 25 <= found["ours"] <= 35


@pytest.mark.slow
def test_each_genre_left_out_stands_beside_training_on_it(whole: dict[str, Any]) -> None:
    left_out = rows(whole, "genre ablation")
    assert len(left_out) == 11
    assert left_out[0]["row"] == "genre not trained on"
    assert all("as many others left out" in row["controls"] for row in left_out)


def test_every_other_row_says_what_it_waits_for(page: dict[str, Any]) -> None:
    waits = [row for row in page["rows"] if row["ours"] is None]
    assert waits
    assert all(row["waits_for"] for row in waits)
    assert {row["row"] for row in waits} >= {"SoundStream", "w2v-BERT", "MuLan-text"}


def test_counts_that_differ_are_printed(page: dict[str, Any]) -> None:
    checks = {check["name"]: check for check in page["checks"]}
    clips = checks["sub-001: train clips x repetitions"]
    assert (clips["expected"], clips["found"], clips["good"]) == ("480 x 1", "40 x 1", False)
    assert checks["sub-001: volumes of a run"]["good"]


def test_what_is_missing_is_one_sentence(written: tuple[Path, Path, Path], tmp_path: Path) -> None:
    data, sounds, _ = written
    with pytest.raises(FileError, match="expected 480 train clips"):
        reproduce("brain2music", ReproduceOptions(data=data, stimuli=sounds))
    with pytest.raises(FileError, match=r"need the sounds that were heard.*--stimuli"):
        reproduce("brain2music", ReproduceOptions(data=data, partial=True))
    with pytest.raises(FileError, match="No data set at"):
        reproduce("brain2music", ReproduceOptions(data=tmp_path / "nothing"))


@pytest.mark.slow
def test_several_people_share_components_and_captions_are_words(tmp_path: Path) -> None:
    data, atlas = music(tmp_path, n_people=2, n_runs=(1, 1))
    table = ["id\tfile\tstart_s\tduration_s\tlabel\tcaption"]
    for events in sorted(data.rglob("sub-001*_events.tsv")):
        for line in events.read_text().splitlines()[1:]:
            _, _, genre, track, _, _ = line.split("\t")
            genre = genre.strip("'")
            file = f"genres/{genre}/{genre}.{int(track):05d}.wav"
            name = f"{genre}.{int(track):05d}@0-15"
            table.append(f"{name}\t{file}\t0\t15\t{genre}\tmusic of the kind {genre} {track}")
    stimuli = tmp_path / "stimuli.tsv"
    stimuli.write_text("\n".join(dict.fromkeys(table)) + "\n")
    options = ReproduceOptions(
        data=data, stimuli=stimuli, labels=(atlas,), partial=True, alphas=(1e1, 1e3), n_folds=2,
        n_permutations=50, n_shuffled=0, embedders=("clap-small-random",), lag_s=4.5,
        only=("decoding", "encoding"),
    )  # fmt: skip
    page = reproduce("brain2music", options).to_json()
    (words,) = [
        row
        for row in rows(page, "decoding")
        if row["row"] == "MuLan-text"
        and row["metric"] == "identification test"
        and "lag 4.5 s" in row["using"]
    ]
    assert "captions" in words["using"]
    assert set(words["people"]) == {"sub-001", "sub-002"}
    components = [row["ours"] for row in rows(page, "encoding weights")]
    assert len(components) == 3
    assert 1 >= components[0] >= components[1] >= components[2] > 0
    (unique,) = [row for row in rows(page, "encoding") if row["row"] == "audio and text"]
    assert unique["controls"]["both together"] <= 1

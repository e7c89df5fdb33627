from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from calibration.training.checkpoint import (
    load_optimiser,
    load_tensors,
    load_weights,
    optimiser_tensors,
    read_note,
    save_tensors,
    weights_digest,
)
from models.errors import FileError


def _network(width: int = 3) -> torch.nn.Module:
    torch.manual_seed(width)
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 2))


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1], dtype=torch.int64)}
    path = tmp_path / "stage" / "final.safetensors"
    save_tensors(path, tensors, {"step": 7, "scores": {"x": 0.5}})
    found, note = load_tensors(path)
    assert note == read_note(path) == {"step": 7, "scores": {"x": 0.5}}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("read", [load_tensors, read_note])
def test_a_file_that_is_missing_cut_off_or_anothers_is_refused(
    read: object, tmp_path: Path
) -> None:
    assert callable(read)
    path = tmp_path / "final.safetensors"
    with pytest.raises(FileError, match="no checkpoint of hearback"):
        read(path)
    save_tensors(path, {"a": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileError, match="no checkpoint of hearback"):
        read(path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, path)  # without a note
    with pytest.raises(FileError, match="no checkpoint of hearback"):
        read(path)


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_tensors(path, {"a": torch.zeros(2)}, {"step": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        save_tensors(path, {"a": torch.ones(2)}, {"step": 2})
    assert read_note(path) == {"step": 1}


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    network, other = _network(), _network(5)
    tensors = {f"net.{name}": value for name, value in network.state_dict().items()}
    fresh = _network()
    torch.nn.init.zeros_(next(fresh.parameters()))
    load_weights(fresh, tensors, "net")
    assert all(
        torch.equal(a, b) for a, b in zip(fresh.parameters(), network.parameters(), strict=True)
    )
    for wrong in (other, torch.nn.Linear(4, 3)):
        with pytest.raises(FileError, match="of another network"):
            load_weights(wrong, tensors, "net")


def test_a_digest_tells_names_and_values() -> None:
    digests = [
        weights_digest(tensors)
        for tensors in (
            {"a": torch.zeros(3), "b": torch.ones(2)},
            {"a": torch.zeros(3), "b": torch.tensor([1.0, 1.0 + 1e-7])},
            {"a": torch.zeros(3), "c": torch.ones(2)},
        )
    ]
    assert len(set(digests)) == 3
    assert digests[0] == weights_digest({"b": torch.ones(2), "a": torch.zeros(3)})


def test_an_optimiser_goes_on_as_if_it_had_not_stopped() -> None:
    def step(network: torch.nn.Module, optimiser: torch.optim.Optimizer, number: int) -> None:
        optimiser.zero_grad()
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
        network(x).square().mean().backward()
        optimiser.step()

    through = _network()
    optimiser = torch.optim.AdamW(through.parameters(), lr=0.1)
    for number in range(3):
        step(through, optimiser, number)
    resumed = _network()
    resumed.load_state_dict(through.state_dict())
    again = torch.optim.AdamW(resumed.parameters(), lr=0.1)
    held = {k: v.clone() for k, v in optimiser_tensors(optimiser, "optimiser.net").items()}
    load_optimiser(again, held, "optimiser.net")
    for number in range(3, 6):
        step(through, optimiser, number)
        step(resumed, again, number)
    for a, b in zip(through.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)

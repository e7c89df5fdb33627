"""Floors and engines on networks small enough to know the answers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from export.bench.engines import running, time_calls  # noqa: E402
from export.bench.floors import count_flops, floor_ms, half_bytes  # noqa: E402
from export.bench.full_size import FullSettings, time_full  # noqa: E402
from models.errors import DeviceError, SettingError  # noqa: E402


def test_operations_of_a_linear_map_are_counted() -> None:
    layer = nn.Linear(64, 32, bias=False)
    assert count_flops(layer, (torch.zeros(10, 64),)) == 2 * 10 * 64 * 32
    assert half_bytes(layer) == 2 * 64 * 32
    assert layer.weight.device.type == "cpu"  # the network itself is left as it was


def test_the_floor_is_the_slower_of_arithmetic_and_memory() -> None:
    assert floor_ms(312 * 10**9, 0, "A100") == pytest.approx(1.0)
    assert floor_ms(1, 2 * 10**9, "A100") == pytest.approx(1.0)


def test_engines_compute_the_network_they_are_given() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.Tanh()).eval()
    inputs = (torch.randn(2, 8),)
    with torch.no_grad():
        expected = network(*inputs)
    with running(network, inputs, "eager", device="cpu") as (call, _):
        torch.testing.assert_close(call(), expected)
        walls, used = time_calls(call, on_gpu=False, repeats=3)
    assert len(walls) == len(used) == 3
    with running(network, inputs, "onnx", device="cpu") as (call, note):
        call()
    assert note.startswith("CPUExecutionProvider")
    assert float(note.rsplit(" ", 1)[1]) < 1e-5


def test_a_budget_ends_the_timing_but_never_before_the_first_call() -> None:
    walls, _ = time_calls(lambda: None, on_gpu=False, repeats=5, budget_s=0.0)
    assert len(walls) == 1


def test_engines_that_need_a_gpu_say_so() -> None:
    network = nn.Linear(2, 2)
    with (
        pytest.raises(DeviceError, match="--device cuda"),
        running(network, (torch.zeros(1, 2),), "cudagraph", device="cpu"),
    ):
        pass


@pytest.mark.parametrize(
    "options",
    [
        {"models": ("stable",)},
        {"engines": ("fast",)},
        {"steps": (0,)},
        {"seconds": 0.0},
        {"dtype": "int8"},
    ],
)
def test_unknown_choices_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingError, match="Expected"):
        FullSettings(**options)  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(DeviceError, match="no CUDA GPU"):
        time_full(FullSettings(device="cuda"))

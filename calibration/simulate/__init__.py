"""The simulated listener as a data set: recordings whose every cause is known."""

from calibration.simulate.dataset import simulate_dataset
from calibration.simulate.fingerprint import fingerprint_samples
from calibration.simulate.oracle import (
    LinearDecoder,
    OracleScore,
    best_linear_decoder,
    expected_score,
    trained_score,
)
from calibration.simulate.runs import Simulation, simulate_runs, simulation
from calibration.simulate.settings import RegionSettings, SimulationSettings, default_regions
from calibration.simulate.truth import SimulatedTruth, load_truth, simulated_truth

__all__ = [
    "LinearDecoder",
    "OracleScore",
    "RegionSettings",
    "SimulatedTruth",
    "Simulation",
    "SimulationSettings",
    "best_linear_decoder",
    "default_regions",
    "expected_score",
    "fingerprint_samples",
    "load_truth",
    "simulate_dataset",
    "simulate_runs",
    "simulated_truth",
    "simulation",
    "trained_score",
]

"""The simulated listener as a data set: recordings whose every cause is known."""

from calibration.simulate.runs import Simulation, simulate_runs, simulation
from calibration.simulate.settings import RegionSettings, SimulationSettings, default_regions

__all__ = [
    "RegionSettings",
    "Simulation",
    "SimulationSettings",
    "default_regions",
    "simulate_runs",
    "simulation",
]

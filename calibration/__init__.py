"""One participant, offline: recordings and stimuli to a bundle, and the simulated listener."""

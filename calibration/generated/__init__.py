"""Calibrations that end in generated sound: its networks, its bundles, and how well it tells."""

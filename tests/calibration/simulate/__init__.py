"""Tests of the simulated data sets."""

"""Tests, mirroring the packages they check."""

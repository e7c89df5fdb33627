"""Splits, floors, ceilings and tests that a score needs before it can be believed."""

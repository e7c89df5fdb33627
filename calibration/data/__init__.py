"""Recordings of participants in one form, whatever they were stored as."""

"""The report of a calibration: one JSON, and one page that a lab head understands in a minute."""

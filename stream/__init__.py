"""The live path, from a brain stream to sound, with its recorder, replayer and telemetry."""

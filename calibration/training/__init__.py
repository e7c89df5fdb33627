"""Training of the embedded generator: stages that checkpoint, resume exactly and end on request."""

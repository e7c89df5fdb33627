"""What the papers do beyond one decoder for one person: selection, alignment, encoding models."""

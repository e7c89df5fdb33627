"""How fast the full-size architectures are, and how fast the hardware would let them be."""

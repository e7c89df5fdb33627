"""Further training of a generator and an acoustic decoder on brain data, all else frozen."""

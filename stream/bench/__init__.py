"""How long a generator takes from a condition to sound, by itself and in a running stream."""

"""How good what a generator makes is: fidelity, conditions, joins, drift, copies."""

"""The five papers' numbers, computed on their data: ours, the paper's, and the controls."""

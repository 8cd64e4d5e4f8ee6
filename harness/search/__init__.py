"""Searches by name: which architecture of a space to train, found by gradient, by evolution or at random."""

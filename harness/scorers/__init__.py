"""Scorers: one file per proxy or family."""

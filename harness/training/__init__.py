"""Evaluation training: recipes, one training, and many trainings into the store."""

"""Recipes and what they do: collect, train, evaluate, replay, report."""

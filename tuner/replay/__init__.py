"""Recorded curves, and what a scheduler would have made of them."""

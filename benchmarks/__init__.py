"""Measurements of the course against what a student would otherwise use; README.md has them."""

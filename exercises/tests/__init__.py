"""Tests of the exercises: their answers, what leaks, handing out, marking."""

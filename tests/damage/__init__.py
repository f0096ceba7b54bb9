"""Inputs damaged at random, of every kind that a command reads: for the tests, and many more for benchmarks/fuzz.py."""

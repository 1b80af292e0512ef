"""Families that count: popularity, Markov chains, rules, neighbors."""

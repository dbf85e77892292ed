"""Experiments analysed: who met which variant, what they did, what follows from it."""

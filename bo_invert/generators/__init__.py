"""Generative models that ship with the library, and their trainers."""

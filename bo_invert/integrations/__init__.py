"""Adapters that let other frameworks ask strategies of this library for points."""

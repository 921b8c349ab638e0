"""Looks at an oracle and a space before money is spent, and advises a strategy."""

"""Search domains: typed parameters, points in unit coordinates, reference measures."""

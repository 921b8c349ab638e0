"""How plausible a point or a design is: measured, calibrated reference measures."""

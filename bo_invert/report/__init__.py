"""What people look at: curves, galleries, tables, HTML. Reads trials, nothing else."""

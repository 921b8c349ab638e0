"""Fair comparisons: problems x strategies x seeds on one ledger."""

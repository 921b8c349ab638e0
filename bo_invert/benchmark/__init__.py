"""The referee: a public suite of problems, our methods and their peers, on one ledger."""

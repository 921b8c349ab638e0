"""A variational autoencoder of molecules in SELFIES notation."""

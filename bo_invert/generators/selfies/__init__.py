"""Variational autoencoder of molecules in SELFIES notation."""

from bo_invert.generators.selfies.model import SelfiesConfig
from bo_invert.generators.selfies.training import SelfiesVAE

__all__ = ["SelfiesConfig", "SelfiesVAE"]

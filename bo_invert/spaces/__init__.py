"""From points to designs. One file each; see ``base`` for the contract."""

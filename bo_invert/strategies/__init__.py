"""Ways to choose the next points. One file each; see ``base`` for the contract."""

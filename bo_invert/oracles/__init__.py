"""From designs to raw outputs. One file each; see ``base`` for the contract."""

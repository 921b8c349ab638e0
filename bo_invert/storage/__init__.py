"""Where logs live. One file each; see ``base`` for the contract."""

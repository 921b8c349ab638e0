"""Entry point of ``python -m bo_invert.cli``."""

from bo_invert.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m avatarfit` is the same as `avatarfit`."""

import sys

from avatarfit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

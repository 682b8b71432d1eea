"""`python -m onward`: the same as `onward`."""

import sys

from onward.cli import main

sys.exit(main())

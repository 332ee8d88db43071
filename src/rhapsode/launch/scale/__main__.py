"""`python -m rhapsode.launch.scale > docs/scale.md`."""

import sys

from rhapsode.launch.scale.page import page

sys.stdout.write(page())

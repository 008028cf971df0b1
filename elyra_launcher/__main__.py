"""``python -m elyra_launcher``: see ``--help``."""

import sys

from .main import launch

sys.exit(launch())

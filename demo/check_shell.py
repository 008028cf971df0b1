"""Part of ``make lint``: the shell scripts parse."""

import subprocess
import sys

from demo import ROOT

SCRIPTS = [*ROOT.glob("kernels/**/*.sh"), *ROOT.glob("demo/*.sh"), ROOT / ".ci" / "run"]

sys.exit(max(subprocess.run(["bash", "-n", str(script)], check=False).returncode for script in SCRIPTS))

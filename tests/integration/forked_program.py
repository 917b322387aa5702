"""A program that prints its surroundings, and then ends as its first argument says."""

import json
import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    print(
        json.dumps(
            {
                "pid": os.getpid(),
                "arguments": sys.argv[1:],
                "environment": dict(os.environ),
                "folder": str(Path.cwd()),
                "preloaded": "tests.integration.preloaded" in sys.modules,
            }
        )
    )
    if sys.argv[1] == "wait":
        sys.stdout.flush()
        signal.pause()
    if sys.argv[1] == "read":
        sys.exit(sys.stdin.read())
    sys.exit(3)

"""Copies executables that cargo has just built, by name: cargo's JSON messages come in, `NAME,NAME FOLDER` are the arguments."""

import json
import shutil
import sys

wanted = set(sys.argv[1].split(","))
for line in sys.stdin:
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message.get("executable"):
        name = message["target"]["name"]
        if name in wanted:
            shutil.copy(message["executable"], f"{sys.argv[2]}/{name}")
            wanted.discard(name)
if wanted:
    sys.exit(f"not built: {', '.join(sorted(wanted))}")

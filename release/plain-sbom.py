"""Takes out of an SBOM what differs from build to build: plain-sbom.py ROOT FILE prints it.

The time becomes that of SOURCE_DATE_EPOCH, paths of this machine become those of the build, and the random serial number
becomes one that follows from the content.
"""

import datetime
import hashlib
import json
import os
import sys
import uuid
from pathlib import Path

root, path = sys.argv[1:]
bom = json.loads(Path(path).read_text().replace(root, "/build"))
bom.pop("serialNumber", None)
epoch = int(os.environ["SOURCE_DATE_EPOCH"])
bom["metadata"]["timestamp"] = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
bom["components"].sort(key=lambda one: one["bom-ref"])
bom["dependencies"].sort(key=lambda one: one["ref"])
for one in bom["dependencies"]:
    one.get("dependsOn", []).sort()
content = json.dumps(bom, sort_keys=True).encode()
bom["serialNumber"] = uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=4).urn
json.dump(bom, sys.stdout, indent=2)
print()

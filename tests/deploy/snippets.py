"""Writes the configurations that docs/DEPLOY.md prints into files: snippets.py PAGE FOLDER."""

import re
import sys
from pathlib import Path

page, folder = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
files = {"nginx": "nginx.conf", "caddyfile": "Caddyfile", "yaml": "overlay/kustomization.yaml"}
for language, name in files.items():
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) == 1, f"{len(blocks)} blocks of {language}"
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(blocks[0])
# The overlay lies beside the repository.
beside = folder / "overlay/basiq-relay"
if not beside.exists():
    beside.symlink_to(Path(__file__).resolve().parents[2], target_is_directory=True)

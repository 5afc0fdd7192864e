"""Splits what Kustomize rendered: split.py FILE.yaml writes FILE.core.yaml, what Kubernetes itself knows, and FILE.json."""

import json
import sys
from pathlib import Path

import yaml

path = Path(sys.argv[1])
documents = list(yaml.safe_load_all(path.read_text()))
core = [one for one in documents if not one["apiVersion"].startswith("monitoring.coreos.com/")]
path.with_suffix(".core.yaml").write_text(yaml.safe_dump_all(core, sort_keys=False))
path.with_suffix(".json").write_text(json.dumps(documents))

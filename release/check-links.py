#!/usr/bin/env python3
"""Fails if a page in a folder links to a file that the folder does not have.

    release/check-links.py FOLDER"""
import pathlib
import re
import sys

folder = pathlib.Path(sys.argv[1])
pages = sorted(folder.rglob("*.md"))
links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
files = [(page, link.split("#")[0]) for page, link in links if not re.match(r"[a-z]+:", link)]
missing = [f"{page.relative_to(folder)}: {file}" for page, file in files if file and not (page.parent / file).exists()]
if not files:
    sys.exit("no links found")
if missing:
    sys.exit("links that lead to no file:\n" + "\n".join(missing))
print(f"links: {len(files)} in {len(pages)} pages lead to a file")

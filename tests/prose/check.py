#!/usr/bin/env python3
"""Fails when a sentence of the documentation has more than 30 words, and names it with its page and line.

`tests/prose/check.py` checks all pages; `tests/prose/check.py docs/API.md …` checks the named ones; `--list N` also
prints the sentences of more than N words. It needs nothing but Python.

How sentences are counted:

* Code blocks, HTML comments and pictures are no prose. A diagram is a code block.
* A paragraph, a heading, an item of a list and a cell of a table are blocks. No sentence goes on from one block to the next.
* A sentence ends with `.`, `?`, `!` or `…` before a space, or with its block. A colon and a semicolon do not end it.
  The dot of an abbreviation (`e.g.`), of a number (`1.0`) or of a name (`API.md`) does not end it either.
* A word is what stands between spaces and has a letter or a digit. Code between backticks is one word. A link counts as its text.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 30

ABBREVIATIONS = ("e.g.", "i.e.", "etc.", "vs.", "cf.", "No.")
FENCE = re.compile(r"\s*(```|~~~)")
ITEM = re.compile(r"\s*([-*+]|\d+[.)])\s+")
RULE = re.compile(r"\s*\|?[\s:|-]+\|?\s*")
END = re.compile(r"[.?!…][\"')\]*_]*$")


def blocks(page):
    """Yields the blocks of prose of a page as (line number, text)."""
    start, lines, fence, comment = 0, [], None, False
    for number, line in enumerate(page.splitlines(), 1):
        if fence:
            fence = None if line.strip().startswith(fence) else fence
            continue
        opened = FENCE.match(line)
        comment = comment or line.lstrip().startswith("<!--")
        text = "" if opened or comment else line
        comment = comment and "-->" not in line
        fence = opened[1] if opened else None
        is_row, is_heading, item = text.lstrip().startswith("|"), text.startswith("#"), ITEM.match(text)
        if lines and (not text.strip() or is_row or is_heading or item):
            yield start, " ".join(lines)
            lines = []
        if is_row:
            if not RULE.fullmatch(text):
                yield from ((number, cell) for cell in cells(text))
        elif is_heading:
            yield number, text.lstrip("# ")
        elif text.strip():
            start = start if lines else number
            lines.append(text[item.end() :] if item else text.strip().lstrip("> "))
    if lines:
        yield start, " ".join(lines)
    if fence or comment:
        sys.exit("tests/prose: a code block or a comment has no end, so what follows it was not read")


def cells(row):
    """Splits a row of a table. A bar in code, or one after a backslash, splits nothing."""
    row = re.sub(r"`[^`]*`", lambda code: code[0].replace("|", "\0"), row).replace("\\|", "\0")
    return [cell.strip().replace("\0", "|") for cell in row.strip().strip("|").split("|")]


def plain(text):
    """Replaces code by one word, a picture by nothing, and a link by its text."""
    text = re.sub(r"(`+).+?\1", "code", text)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    return re.sub(r"\[([^]]*)\](\([^)]*\)|\[[^]]*\])", r"\1", text)


def sentences(page):
    """Yields the sentences of a page as (line number, words). The line is the first of the sentence's block."""
    for number, text in blocks(page):
        words = []
        for token in plain(text).split():
            if re.search(r"\w", token):
                words.append(token)
            if END.search(token) and token not in ABBREVIATIONS and words:
                yield number, words
                words = []
        if words:
            yield number, words


def lengths(page):
    return [len(words) for _, words in sentences(page)]


# The rules above, as pages and the lengths of their sentences.
CASES = {
    "One two three. Four five? Six!": [3, 2, 1],
    "Two lines\nare one sentence; it goes on: here.": [9],
    "A `code of many words. And dots` is one word.": [5],
    "See [the page](a%20page.md#a-part-of-it) and ![a picture](x.png) more.": [5],
    "Version 1.0 of API.md, e.g. this one.": [7],
    "# A heading\nText after it": [2, 3],
    "* one item\n  and its next line\n* two\n1. three": [6, 1, 1],
    "| a head | b |\n|---|---|\n| one. two three | `a|b` four |": [2, 1, 1, 2, 2],
    "Before\n```sh\nthis is not prose at all\n```\nafter": [1, 1],
    "<!-- nor is\nthis -->\nThis is": [2],
    '**Bold.** "Quoted." (In brackets.) – dash': [1, 1, 2, 1],
    " ".join(["word"] * 31): [31],
}


def main():
    for page, expected in CASES.items():
        if lengths(page) != expected:
            sys.exit(f"tests/prose: the check is broken: {page!r} has {lengths(page)}, not {expected}")
    arguments = sys.argv[1:]
    shown = LIMIT
    if arguments[:1] == ["--list"]:
        shown, arguments = int(arguments[1]), arguments[2:]
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    names = listed.stdout.split()
    failed = 0
    for name in arguments or names:
        for number, words in sentences((ROOT / name).read_text()):
            failed += len(words) > LIMIT
            if len(words) > shown:
                print(f"{name}:{number}: {len(words)} words: {' '.join(words)}")
    if failed:
        sys.exit(f"tests/prose: sentences of more than {LIMIT} words: {failed}")


if __name__ == "__main__":
    main()

"""The committed English prose, as documents, and how a piece of a wanted length is cut from one.

Lengths are in characters here: what a character costs in tokens is measured on the server (see sizing.py).
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CORPUS_DIRECTORY = Path(__file__).resolve().parent / "corpus"

_QUOTATION = re.compile(r"(?<!\w)'|'(?!\w)|\"")  # not the apostrophe of "don't"
_SENTENCE_END = re.compile(r"[.!?][')\"]*(?=\s)")


@dataclass(frozen=True)
class Document:
    name: str
    text: str


def read_documents(directory: Path = CORPUS_DIRECTORY) -> list[Document]:
    """All documents, by name, so that the order never depends on the file system."""
    documents = [Document(path.stem, path.read_text(encoding="utf-8").strip()) for path in sorted(directory.glob("*.txt"))]
    if not documents:
        raise FileNotFoundError(f"no documents (*.txt) in {directory}")
    return documents


def excerpt(text: str, max_chars: int, start: int = 0) -> str:
    """At most max_chars of text from start on, ending with a whole sentence where one ends in the second half, else with a whole word."""
    piece = text[start : start + max_chars]
    if start + max_chars >= len(text):
        return piece.strip()
    ends = [match.end() for match in _SENTENCE_END.finditer(piece)]
    if ends and ends[-1] > max_chars // 2:
        return piece[: ends[-1]].strip()
    return piece.rsplit(None, 1)[0].strip() if re.search(r"\s", piece.strip()) else piece.strip()


def openings(text: str, max_chars: int = 80, min_chars: int = 14) -> list[str]:
    """The first words of the sentences, in the order of the text, up to where speech begins: quotation marks would come in halves."""
    found: list[str] = []
    for paragraph in text.split("\n\n"):
        begin = 0
        for end in [match.end() for match in _SENTENCE_END.finditer(paragraph)]:
            sentence = " ".join(paragraph[begin:end].split())
            begin = end
            words = _QUOTATION.split(excerpt(sentence, max_chars))[0].rstrip(".!?,;:-( ")
            if len(words) >= min_chars and words[0].isupper():
                found.append(words)
    if not found:  # all speech: the longest piece between two quotation marks
        longest = max((" ".join(piece.split()) for piece in _QUOTATION.split(text)), key=len)
        found = [words] if len(words := excerpt(longest, max_chars)) >= min_chars else []
    return found

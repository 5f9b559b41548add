"""Text of so many tokens, the same for the same name.

A piece of text is a row of plain words, chosen by SHAKE-128 over seed and name. The words are those that cost one token each in the
server's tokenizer (calibration.py finds them), with the space before them, so pieces can be put one after the other in any order
and keep their number of tokens. A longer piece of a name begins with the shorter one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LEAD = "The"  # first word of each text: a word without a space before it may cost another number of tokens
_KINDS = 256  # one byte of the digest chooses a word
_MOST_KEPT_CHARACTERS = 64 << 20

COMMON = tuple("""
about above across action after again against age air all almost along also always among amount and animal another answer any
anything appear apple area arm around art ask away baby back bad ball bank bar base bear beat beautiful because become bed before
began begin behind being believe below best better between big bird black blood blue board boat body book both bottom box boy bread
break bring brother brought brown build building built business but buy call came can car card care carry case cat catch caught cause
center century certain chance change check child children choose church circle city class clean clear close cloud coast cold color
come common company complete consider contain continue control cook cool copy corn corner correct cost could count country course
cover create cross cry current cut dance danger dark daughter day dead deal death decide deep describe desert design develop did
difference different difficult dinner direct direction discover do doctor does dog done door double doubt down draw dream dress drink
drive drop dry during each ear early earth east easy eat edge effect egg eight either electric element else end enemy energy engine
enjoy enough enter equal even evening ever every exact example except expect experience explain express eye face fact fall family
famous far farm farmer fast father fear feel feet fell felt few field fight figure fill final find fine finger finish fire first fish
fit five flat floor flow flower fly follow food foot for force foreign forest form forward found four free fresh friend from front
fruit full fun funny game garden gas gave general get girl give glad glass go gold gone good got great green grew ground group grow
guess hair half hand happen happy hard has hat have he head hear heard heart heat heavy held help her here high hill him his history
hit hold hole home hope horse hot hour house how huge human hundred hunt hurry ice idea if imagine in inch include increase indeed
""".split())


class Words:
    """The words of one server's tokenizer. Texts are kept for reuse within a bound, since blocks of a workload come again and again."""

    def __init__(self, words: Sequence[str], seed: int, tokens_per_word: float = 1.0) -> None:
        self._tokens_per_word = tokens_per_word
        self._table = [f" {words[place % len(words)]}" for place in range(_KINDS)]
        self._seed = seed
        self._kept: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._kept_characters = 0

    def text(self, piece: Piece) -> str:
        """With a space before each word."""
        key = (piece.name, piece.tokens)
        text = self._kept.get(key)
        if text is None:
            count = piece.tokens if self._tokens_per_word == 1 else max(1, round(piece.tokens / self._tokens_per_word))
            choices = hashlib.shake_128(f"{self._seed}/{piece.name}".encode()).digest(count)
            text = "".join(map(self._table.__getitem__, choices))
            self._kept[key] = text
            self._kept_characters += len(text)
            while self._kept_characters > _MOST_KEPT_CHARACTERS:
                self._kept_characters -= len(self._kept.popitem(last=False)[1])
        else:
            self._kept.move_to_end(key)
        return text

    def texts(self, pieces: Iterable[Piece]) -> str:
        return "".join(map(self.text, pieces))


@dataclass(frozen=True)
class Piece:
    """Text by its name and length. Two of one name begin alike."""

    name: str
    tokens: int


def tokens_of(pieces: Iterable[Piece]) -> int:
    return sum(piece.tokens for piece in pieces)


def shorten(pieces: Sequence[Piece], tokens: int) -> tuple[Piece, ...]:
    """The same without so many tokens, taken from the first pieces on, so that all ends of pieces lie where they lay. One word is left."""
    shorter: list[Piece] = []
    for piece in pieces:
        left = max(0, piece.tokens - tokens)
        tokens -= piece.tokens - left
        if left:
            shorter.append(Piece(piece.name, left))
    return tuple(shorter) or (Piece(pieces[0].name, 1),)

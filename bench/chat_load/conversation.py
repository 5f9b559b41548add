"""The load: who says what in which round.

In the shape of LMBenchmark's multi-round QA: one system prompt that all share, a private history for each user (a document), and a new question
in each round, when it is the user's turn again. Built from the corpus and a seed alone, so two runs get the same conversations. Answers are not
part of it: each run feeds back its own, as a chat client does.
"""
from __future__ import annotations

import random
from dataclasses import dataclass, replace

from chat_load.corpus import Document, excerpt, openings

SYSTEM_PROMPT = (
    "You are a patient reading companion. The user gives you a chapter of a book and asks about it, one question at a time. "
    "Answer from the chapter alone, in plain English and in at most two sentences. If the chapter does not say, say so. "
    "Name the characters who act, keep the order of events, and do not retell what was not asked for."
)

_QUESTIONS = (
    'Find the sentence that begins "{quote} ..." What happens just before it?',
    'One sentence begins "{quote} ..." Who is meant, and what do they want?',
    'Go to the place that begins "{quote} ..." What happens next?',
    'Why does the author write "{quote} ..."? Explain it to a child.',
    'Put into your own words the sentence that begins "{quote} ..."',
    'Read again from "{quote} ..." on. What does Alice feel at that moment?',
)
_SHARED_NOTE = "These are my own notes, which nobody else has:"

# A chat template's tags around one message, and a safety margin because lengths in tokens are estimated from characters.
TEMPLATE_TOKENS_A_MESSAGE = 8
LENGTH_MARGIN = 0.97


@dataclass(frozen=True)
class LoadShape:
    """All that decides a load. Lengths in tokens are budgets: the text never takes more by the given measure of characters a token."""

    users: int = 6
    rounds: int = 4
    extra_rounds: int = 0  # questions and room for turns after the rounds: those of the demo's second act
    slots: int = 2
    history_tokens: int = 1200
    question_tokens: int = 48
    answer_tokens: int = 24
    users_per_document: int = 1  # above 1, the users of a group begin with the same document and add notes of their own
    shared_share: float = 0.75  # of the history, where users share a document
    resident_users: int = 2  # so many users' conversations fit the engine's KV memory
    seed: int = 1
    chars_per_token: float = 3.6

    def with_history(self, history_tokens: int) -> LoadShape:
        return replace(self, history_tokens=history_tokens)

    @property
    def system_tokens(self) -> int:
        return int(len(SYSTEM_PROMPT) / self.chars_per_token) + TEMPLATE_TOKENS_A_MESSAGE

    def prompt_tokens(self, round_index: int) -> int:
        """Upper estimate of a prompt in this round (from 0)."""
        turns = (round_index + 1) * (self.question_tokens + TEMPLATE_TOKENS_A_MESSAGE)
        answers = round_index * (self.answer_tokens + TEMPLATE_TOKENS_A_MESSAGE)
        return self.system_tokens + self.history_tokens + turns + answers + TEMPLATE_TOKENS_A_MESSAGE

    def context_tokens(self) -> int:
        """The KV cells a server gets: whole conversations of the resident users, in steps of 256."""
        conversation = self.prompt_tokens(self.rounds + self.extra_rounds - 1) + self.answer_tokens
        return -(-self.resident_users * conversation // 256) * 256


@dataclass(frozen=True)
class UserScript:
    """What one user says: the document, then a question a round."""

    name: str
    document: str
    questions: tuple[str, ...]

    def user_message(self, round_index: int) -> str:
        question = self.questions[round_index]
        return f"{self.document}\n\n{question}" if round_index == 0 else question


@dataclass(frozen=True)
class Load:
    shape: LoadShape
    users: tuple[UserScript, ...]


def build_load(shape: LoadShape, documents: list[Document]) -> Load:
    """The same shape and documents give the same load, to the letter."""
    groups = -(-shape.users // shape.users_per_document)
    rng = random.Random(shape.seed)
    order = list(documents)
    rng.shuffle(order)
    scripts = []
    for user in range(shape.users):
        group = user % groups  # members of a group do not come right after each other
        document = _history(shape, order, user, group, groups)
        scripts.append(UserScript(f"user {user + 1}", document, _questions(shape, document, rng)))
    return Load(shape, tuple(scripts))


def _history(shape: LoadShape, order: list[Document], user: int, group: int, groups: int) -> str:
    budget = int(shape.history_tokens * shape.chars_per_token * LENGTH_MARGIN)
    home = order[group % len(order)]
    lap = group // len(order)  # more groups than documents: later laps start deeper in the text
    if shape.users_per_document == 1:
        return _from(home, budget, lap)
    shared = _from(home, int(budget * shape.shared_share), lap)
    notes_source = order[(groups + user) % len(order)]
    notes = excerpt(notes_source.text, max(1, budget - len(shared) - len(_SHARED_NOTE) - 4), start=(user + 1) * 97)
    return f"{shared}\n\n{_SHARED_NOTE}\n\n{notes}"


def _from(document: Document, budget: int, lap: int) -> str:
    start = min(lap * 1013, max(0, len(document.text) - budget))
    return excerpt(document.text, budget, start=start)


def _questions(shape: LoadShape, document: str, rng: random.Random) -> tuple[str, ...]:
    budget = int(shape.question_tokens * shape.chars_per_token * LENGTH_MARGIN)
    longest_frame = max(len(question) for question in _QUESTIONS) - len("{quote}")
    quotes = openings(document, max_chars=budget - longest_frame)
    if not quotes:
        raise ValueError(f"questions of {shape.question_tokens} tokens leave no room for a quotation from {document[:30]!r}...")
    return tuple(rng.choice(_QUESTIONS).format(quote=rng.choice(quotes)) for _ in range(shape.rounds + shape.extra_rounds))

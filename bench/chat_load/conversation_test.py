from __future__ import annotations

import os.path
import unittest
from dataclasses import replace

from chat_load.conversation import Load, LoadShape, build_load
from chat_load.corpus import Document, excerpt, openings, read_documents


def common_prefix(a: str, b: str) -> int:
    return len(os.path.commonprefix([a, b]))


class LoadTest(unittest.TestCase):
    def setUp(self) -> None:
        self.documents = read_documents()

    def build(self, **changes: int) -> Load:
        return build_load(replace(LoadShape(), **changes), self.documents)

    def test_same_shape_same_load(self) -> None:
        self.assertEqual(self.build(), self.build())

    def test_seed_changes_it(self) -> None:
        self.assertNotEqual(self.build(seed=1).users, self.build(seed=2).users)

    def test_every_text_keeps_its_token_budget(self) -> None:
        for history in (200, 256, 700, 1200):
            for sharing in (1, 2, 3):
                load = self.build(history_tokens=history, users_per_document=sharing, users=12)
                shape = load.shape
                for user in load.users:
                    self.assertEqual(len(user.questions), shape.rounds)
                    self.assertLessEqual(len(user.document), history * shape.chars_per_token)
                    self.assertGreater(len(user.document), history * shape.chars_per_token * 0.45)
                    for question in user.questions:
                        self.assertLessEqual(len(question), shape.question_tokens * shape.chars_per_token)
                        self.assertNotIn("{", question)

    def test_a_whole_conversation_keeps_the_prompt_budget(self) -> None:
        load = self.build()
        shape = load.shape
        for user in load.users:
            characters = sum(len(user.user_message(round_index)) for round_index in range(shape.rounds))
            self.assertLess(characters / shape.chars_per_token, shape.prompt_tokens(shape.rounds - 1))

    def test_private_histories_share_no_prefix(self) -> None:
        users = self.build(users=6).users
        for a in range(6):
            for b in range(a):
                self.assertLess(common_prefix(users[a].document, users[b].document), 30)

    def test_more_users_than_documents_still_differ(self) -> None:
        documents = [user.document for user in self.build(users=30, history_tokens=600).users]
        self.assertEqual(len(set(documents)), 30)

    def test_shared_histories_share_their_document_and_nothing_more(self) -> None:
        load = self.build(users=6, users_per_document=3)
        for a in range(6):
            for b in range(a):
                shared = common_prefix(load.users[a].document, load.users[b].document)
                longest = len(load.users[a].document)
                if a % 2 == b % 2:
                    self.assertGreater(shared, 0.6 * longest)
                    self.assertLess(shared, 0.9 * longest)
                else:
                    self.assertLess(shared, 30)

    def test_only_the_first_message_brings_the_document(self) -> None:
        user = self.build().users[0]
        self.assertTrue(user.user_message(0).startswith(user.document))
        self.assertEqual(user.user_message(1), user.questions[1])

    def test_context_holds_the_resident_users_and_not_one_more(self) -> None:
        for history in (256, 600, 1200):
            shape = LoadShape(history_tokens=history)
            conversation = shape.prompt_tokens(shape.rounds - 1) + shape.answer_tokens
            self.assertGreaterEqual(shape.context_tokens(), 2 * conversation)
            self.assertLess(shape.context_tokens(), 3 * conversation)
            self.assertEqual(shape.context_tokens() % 256, 0)

    def test_a_document_of_speech_alone_can_be_asked_about(self) -> None:
        speech = Document("speech", "'Oh dear, oh dear! I shall be late!' 'Who are you?' 'Off with her head at once, I say, all of you!' " * 40)
        self.assertEqual(len(build_load(LoadShape(), [speech]).users), 6)


class CorpusTest(unittest.TestCase):
    def test_is_plain_prose(self) -> None:
        for document in read_documents():
            self.assertTrue(document.text.isascii(), document.name)
            self.assertGreater(len(document.text), 8000, document.name)

    def test_excerpt_ends_with_a_sentence_where_it_can(self) -> None:
        text = "One sentence here. Another one follows it. And a third."
        self.assertEqual(excerpt(text, 45), "One sentence here. Another one follows it.")
        self.assertEqual(excerpt(text, 16), "One sentence")
        self.assertEqual(excerpt(text, 1000), text)

    def test_openings_hold_no_half_quotations(self) -> None:
        for document in read_documents():
            for words in openings(document.text):
                self.assertNotRegex(words, r"(?<!\w)'|'(?!\w)")
                self.assertIn(words.split()[0], document.text)


if __name__ == "__main__":
    unittest.main()

#include "connectors/llamacpp/text_stream.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <string>
#include <vector>

namespace tiercel::llamacpp {
namespace {

std::string all(TextStream& stream, const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += stream.push(piece);
  return text + stream.finish();
}

TEST(TextStream, GivesPlainTextAtOnce) {
  TextStream stream;
  EXPECT_EQ(stream.push("Hello"), "Hello");
  EXPECT_EQ(stream.push(" world"), " world");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, HoldsAnUnfinishedCharacter) {
  TextStream stream;
  EXPECT_EQ(stream.push("a\xE2\x82"), "a");
  EXPECT_EQ(stream.push("\xAC!"), "\xE2\x82\xAC!");
}

TEST(TextStream, CutOffCharacterBecomesReplacement) {
  TextStream stream;
  EXPECT_EQ(all(stream, {"a\xF0\x9F"}), "a\xEF\xBF\xBD");
}

TEST(TextStream, InvalidBytesBecomeReplacements) {
  TextStream stream;
  // A lone continuation, an overlong lead, a surrogate's first two bytes.
  EXPECT_EQ(all(stream, {"\x80", "\xC0", "x", "\xED\xA0"}), "\xEF\xBF\xBD\xEF\xBF\xBDx\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(TextStream, StopInOnePiece) {
  TextStream stream({"STOP"});
  EXPECT_EQ(stream.push("one STOP two"), "one ");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.push("three"), "");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, StopAcrossPieces) {
  TextStream stream({"\n\nUser:"});
  EXPECT_EQ(stream.push("fine\n"), "fine");
  EXPECT_EQ(stream.push("\nUs"), "");
  EXPECT_EQ(stream.push("er: more"), "");
  EXPECT_TRUE(stream.stopped());
}

TEST(TextStream, WhatOnlyBeganAStopIsGiven) {
  TextStream stream({"abc"});
  EXPECT_EQ(stream.push("xab"), "x");
  EXPECT_EQ(stream.push("d"), "abd");
  EXPECT_EQ(stream.push("ab"), "");
  EXPECT_EQ(stream.finish(), "ab");
}

TEST(TextStream, TheStopThatBeginsFirstWins) {
  TextStream stream({"world", "o w"});
  EXPECT_EQ(stream.push("hello world"), "hell");
}

TEST(TextStream, StopOfMultibyteCharacters) {
  TextStream stream({"\xE2\x82\xAC\xE2\x82\xAC"});
  EXPECT_EQ(all(stream, {"a\xE2\x82\xAC", "\xE2\x82", "\xAC z"}), "a");
  EXPECT_TRUE(stream.stopped());
}

/// However a text is cut into pieces, what comes out is the text up to the first stop.
TEST(TextStream, PiecesDoNotMatter) {
  rc::check([] {
    const auto letters = *rc::gen::container<std::vector<std::string>>(
        rc::gen::element<std::string>("a", "b", "\xC3\xA9", "\xF0\x9F\x98\x80"));
    std::string text;
    for (const std::string& letter : letters) text += letter;
    const auto stop = *rc::gen::element<std::string>("ab", "ba", "aab",
                                                     "\xC3\xA9"
                                                     "a",
                                                     "bb\xF0\x9F\x98\x80");
    TextStream stream({stop});
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = *rc::gen::inRange<std::size_t>(1, 4);
      out += stream.push(std::string_view(text).substr(at, n));
      at += n;
    }
    out += stream.finish();
    RC_ASSERT(out == text.substr(0, text.find(stop)));
    RC_ASSERT(stream.stopped() == (text.find(stop) != std::string::npos));
  });
}

}  // namespace
}  // namespace tiercel::llamacpp

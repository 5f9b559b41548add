// Goal: what a session is comes out of its message as it went in; a number that this version does not know is an error
// or no message, and never something else.
#include "service/wire/messages.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace tiercel::wire {
namespace {

BlockHash any_hash() {
  BlockHash hash;
  for (std::byte& byte : hash.bytes) byte = static_cast<std::byte>(*rc::gen::arbitrary<std::uint8_t>());
  return hash;
}

tiercel::Run any_run() {
  return {.layer = *rc::gen::arbitrary<std::uint32_t>(),
          .kind = static_cast<StateKind>(*rc::gen::inRange(0, 7)),
          .heads = *rc::gen::arbitrary<std::uint32_t>(),
          .bytes_per_head_token = *rc::gen::arbitrary<std::uint32_t>(),
          .opaque_bytes = *rc::gen::arbitrary<std::uint64_t>()};
}

SessionOptions any_session() {
  SessionOptions options;
  options.model.name = *rc::gen::arbitrary<std::string>();
  options.model.config_digest = any_hash();
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i) options.model.weights.push_back(any_hash());
  options.model.weights_epoch = *rc::gen::arbitrary<std::uint64_t>();
  options.model.kv_dtype = *rc::gen::arbitrary<std::string>();
  options.model.properties = *rc::gen::arbitrary<std::vector<std::pair<std::string, std::string>>>();
  options.block_tokens = *rc::gen::arbitrary<std::uint32_t>();
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i) {
    tiercel::Group group{.kind = static_cast<GroupKind>(*rc::gen::inRange(0, 3)),
                         .window_tokens = *rc::gen::arbitrary<std::uint32_t>(),
                         .runs = {}};
    for (int r = *rc::gen::inRange(0, 5); r > 0; --r) group.runs.push_back(any_run());
    options.layout.groups.push_back(std::move(group));
  }
  options.group = {.engine_id = *rc::gen::arbitrary<std::string>(),
                   .members = *rc::gen::arbitrary<std::uint32_t>(),
                   .member = *rc::gen::arbitrary<std::uint32_t>()};
  return options;
}

bool same(const tiercel::Group& a, const tiercel::Group& b) {
  if (a.kind != b.kind || a.window_tokens != b.window_tokens || a.runs.size() != b.runs.size()) return false;
  for (std::size_t i = 0; i < a.runs.size(); ++i) {
    const tiercel::Run& x = a.runs[i];
    const tiercel::Run& y = b.runs[i];
    if (x.layer != y.layer || x.kind != y.kind || x.heads != y.heads || x.opaque_bytes != y.opaque_bytes ||
        x.bytes_per_head_token != y.bytes_per_head_token) {
      return false;
    }
  }
  return true;
}

/// A request, as the bytes of a frame's payload.
template <class Body>
std::vector<std::uint64_t> request_of(flatbuffers::FlatBufferBuilder& builder, flatbuffers::Offset<Body> body,
                                      std::size_t& size) {
  builder.Finish(CreateRequest(builder, 7, RequestBodyTraits<Body>::enum_value, body.Union()));
  size = builder.GetSize();
  std::vector<std::uint64_t> aligned((size + 7) / 8);
  std::memcpy(aligned.data(), builder.GetBufferPointer(), size);
  return aligned;
}

RC_GTEST_PROP(Messages, the_options_of_a_session_come_out_as_they_went_in, ()) {
  const SessionOptions in = any_session();
  flatbuffers::FlatBufferBuilder builder;
  std::size_t size = 0;
  const auto bytes = request_of(builder, write_open(builder, in), size);
  const Request* request = verified_request(std::as_bytes(std::span(bytes)).first(size));
  RC_ASSERT(request != nullptr);
  const auto out = read_open(*request->body_as_Open());
  RC_ASSERT(out.has_value());
  RC_ASSERT(out->model.name == in.model.name);
  RC_ASSERT(out->model.config_digest == in.model.config_digest);
  RC_ASSERT(out->model.weights == in.model.weights);
  RC_ASSERT(out->model.weights_epoch == in.model.weights_epoch);
  RC_ASSERT(out->model.kv_dtype == in.model.kv_dtype);
  RC_ASSERT(out->model.properties == in.model.properties);
  RC_ASSERT(out->block_tokens == in.block_tokens);
  RC_ASSERT(out->group.engine_id == in.group.engine_id);
  RC_ASSERT(out->group.members == in.group.members);
  RC_ASSERT(out->group.member == in.group.member);
  RC_ASSERT(out->layout.groups.size() == in.layout.groups.size());
  for (std::size_t i = 0; i < in.layout.groups.size(); ++i) {
    RC_ASSERT(same(out->layout.groups[i], in.layout.groups[i]));
  }
}

Result<SessionOptions> read_with(std::uint8_t group_kind, std::uint8_t run_kind) {
  SessionOptions options{.model = {.name = "m"}, .layout = Layout::blob(4096)};
  options.layout.groups[0].kind = static_cast<GroupKind>(group_kind);
  options.layout.groups[0].runs[0].kind = static_cast<StateKind>(run_kind);
  flatbuffers::FlatBufferBuilder builder;
  std::size_t size = 0;
  const auto bytes = request_of(builder, write_open(builder, options), size);
  return read_open(*verified_request(std::as_bytes(std::span(bytes)).first(size))->body_as_Open());
}

TEST(Messages, a_kind_that_this_version_does_not_know_is_an_error_that_says_what_is_valid) {
  EXPECT_TRUE(read_with(0, 0));
  EXPECT_TRUE(read_with(2, 6));
  for (const auto& result : {read_with(3, 0), read_with(255, 0)}) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(result.error().message.find("valid is 0 to 2"), std::string::npos) << result.error().message;
  }
  for (const auto& result : {read_with(0, 7), read_with(0, 255)}) {
    ASSERT_FALSE(result);
    EXPECT_NE(result.error().message.find("valid is 0 to 6"), std::string::npos) << result.error().message;
  }
}

TEST(Messages, a_body_of_a_newer_version_is_no_request) {
  flatbuffers::FlatBufferBuilder builder;
  for (const unsigned type : {0U, static_cast<unsigned>(RequestBody::MAX) + 1, 255U}) {
    builder.Clear();
    builder.Finish(CreateRequest(builder, 1, static_cast<RequestBody>(type), CreatePing(builder).Union()));
    EXPECT_EQ(verified_request(std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize()))), nullptr);
    builder.Clear();
    builder.Finish(CreateReply(builder, 1, static_cast<ReplyBody>(type), CreateDone(builder).Union()));
    EXPECT_EQ(verified_reply(std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize()))), nullptr);
  }
}

TEST(Messages, a_list_of_64_bit_numbers_that_lies_crookedly_is_no_request) {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<std::uint64_t> blocks = {1, 2, 3};
  const auto list = builder.CreateVector(blocks);
  builder.Finish(CreateRequest(builder, 7, RequestBody::Report, CreateReport(builder, 5, list).Union()));
  std::vector<std::uint64_t> aligned((builder.GetSize() + 7) / 8 + 1);
  auto* bytes = reinterpret_cast<std::byte*>(aligned.data());
  const auto payload = [&] { return std::span<const std::byte>(bytes, builder.GetSize()); };
  std::memcpy(bytes, builder.GetBufferPointer(), builder.GetSize());
  const Request* request = verified_request(payload());
  ASSERT_NE(request, nullptr);
  // The offset of the list is moved by 4 bytes, so that it begins with its first number's lower half as its length.
  const auto* report = reinterpret_cast<const flatbuffers::Table*>(request->body());
  auto* offset = const_cast<std::uint8_t*>(report->GetAddressOf(Report::VT_BLOCKS));
  flatbuffers::WriteScalar(offset, flatbuffers::ReadScalar<flatbuffers::uoffset_t>(offset) + 4);
  EXPECT_EQ(verified_request(payload()), nullptr);
}

TEST(Messages, an_empty_list_lies_anywhere) {
  for (std::size_t count = 0; count < 16; ++count) {  // what lies behind the list moves it
    flatbuffers::FlatBufferBuilder builder;
    const auto numbers = builder.CreateVector(std::vector<std::uint8_t>(count, std::uint8_t{5}));
    const auto places = builder.CreateVectorOfStructs(std::vector<Place>{});
    const auto body = CreateReservedBlocks(builder, 0, numbers, places).Union();
    builder.Finish(CreateReply(builder, 7, ReplyBody::ReservedBlocks, body));
    std::vector<std::uint64_t> aligned((builder.GetSize() + 7) / 8);
    std::memcpy(aligned.data(), builder.GetBufferPointer(), builder.GetSize());
    EXPECT_NE(verified_reply({reinterpret_cast<const std::byte*>(aligned.data()), builder.GetSize()}), nullptr)
        << count;
  }
}

RC_GTEST_PROP(Messages, a_request_that_is_cut_short_is_none, ()) {
  flatbuffers::FlatBufferBuilder builder;
  std::size_t size = 0;
  const auto bytes = request_of(builder, write_open(builder, any_session()), size);
  const auto cut = *rc::gen::inRange<std::size_t>(0, size);
  // Some cuts leave all that the tables point to; what is read then lies inside (the sanitizers look at it).
  const Request* request = verified_request(std::as_bytes(std::span(bytes)).first(cut));
  if (request != nullptr) (void)read_open(*request->body_as_Open());
  RC_ASSERT(cut >= 8 || request == nullptr);
}

TEST(Messages, an_error_keeps_code_number_and_sentence_and_an_unknown_code_is_unsupported) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(write_error(builder, {.code = ErrorCode::kLimit, .os_error = 12, .message = "too many"}));
  const auto read = read_error(*flatbuffers::GetRoot<Error>(builder.GetBufferPointer()));
  EXPECT_EQ(read.code, ErrorCode::kLimit);
  EXPECT_EQ(read.os_error, 12);
  EXPECT_EQ(read.message, "too many");
  EXPECT_EQ(error_code(200), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace tiercel::wire

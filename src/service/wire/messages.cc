#include "service/wire/messages.h"

#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <vector>

namespace tiercel::wire {
namespace {

constexpr unsigned kMaxDepth = 16;
constexpr unsigned kMaxTables = 16'384;

std::string text(const flatbuffers::String* string) { return string == nullptr ? std::string() : string->str(); }

Result<tiercel::Group> read_group(const Group& group) {
  if (group.kind() > static_cast<unsigned>(GroupKind::kRecurrent)) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("layout.groups: kind {}; valid is 0 to 2", group.kind()));
  }
  tiercel::Group result{
      .kind = static_cast<GroupKind>(group.kind()), .window_tokens = group.window_tokens(), .runs = {}};
  result.runs.reserve(group.runs()->size());
  for (const Run* run : *group.runs()) {
    if (run->kind() > static_cast<unsigned>(StateKind::kBlob)) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("layout.groups.runs: kind {}; valid is 0 to 6", run->kind()));
    }
    result.runs.push_back({.layer = run->layer(),
                           .kind = static_cast<StateKind>(run->kind()),
                           .heads = run->heads(),
                           .bytes_per_head_token = run->bytes_per_head_token(),
                           .opaque_bytes = run->opaque_bytes()});
  }
  return result;
}

/// The library's verifier looks at where a list's length lies, not its elements, which 64-bit numbers need.
template <class T>
bool is_aligned(const flatbuffers::Vector<T>* list) {
  return list == nullptr || list->size() == 0 ||
         std::bit_cast<std::uintptr_t>(list->Data()) % sizeof(std::uint64_t) == 0;
}

bool lists_are_aligned(const Request& request) {
  if (const auto* parts = request.body_as_Parts()) return is_aligned(parts->blocks());
  if (const auto* report = request.body_as_Report()) return is_aligned(report->blocks());
  if (const auto* commit = request.body_as_Commit()) return is_aligned(commit->items());
  const auto* open = request.body_as_Open();
  if (open == nullptr || open->groups() == nullptr) return true;
  return std::ranges::all_of(*open->groups(), [](const Group* group) { return is_aligned(group->runs()); });
}

bool lists_are_aligned(const Reply& reply) {
  if (const auto* loaded = reply.body_as_Loaded()) return is_aligned(loaded->blocks());
  if (const auto* reserved = reply.body_as_ReservedBlocks()) return is_aligned(reserved->places());
  if (const auto* granted = reply.body_as_Granted()) return is_aligned(granted->places());
  return true;
}

}  // namespace

const Request* verified_request(std::span<const std::byte> payload) {
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(payload.data()), payload.size(), kMaxDepth,
                                 kMaxTables);
  if (!verifier.VerifyBuffer<Request>(nullptr)) return nullptr;
  const auto* request = flatbuffers::GetRoot<Request>(payload.data());
  // A member of a newer union verifies as anything: its number must be one that this version knows.
  const bool known = request->body_type() > RequestBody::NONE && request->body_type() <= RequestBody::MAX;
  return known && lists_are_aligned(*request) ? request : nullptr;
}

const Reply* verified_reply(std::span<const std::byte> payload) {
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(payload.data()), payload.size(), kMaxDepth,
                                 kMaxTables);
  if (!verifier.VerifyBuffer<Reply>(nullptr)) return nullptr;
  const auto* reply = flatbuffers::GetRoot<Reply>(payload.data());
  const bool known = reply->body_type() > ReplyBody::NONE && reply->body_type() <= ReplyBody::MAX;
  return known && lists_are_aligned(*reply) ? reply : nullptr;
}

flatbuffers::Offset<Open> write_open(flatbuffers::FlatBufferBuilder& builder, const SessionOptions& options) {
  std::vector<flatbuffers::Offset<Property>> properties;
  for (const auto& [key, value] : options.model.properties) {
    properties.push_back(CreateProperty(builder, builder.CreateString(key), builder.CreateString(value)));
  }
  std::vector<flatbuffers::Offset<Group>> groups;
  for (const tiercel::Group& group : options.layout.groups) {
    std::vector<Run> runs;
    for (const tiercel::Run& run : group.runs) {
      runs.emplace_back(run.opaque_bytes, run.layer, run.heads, run.bytes_per_head_token,
                        static_cast<std::uint8_t>(run.kind));
    }
    groups.push_back(CreateGroup(builder, static_cast<std::uint8_t>(group.kind), group.window_tokens,
                                 builder.CreateVectorOfStructs(runs)));
  }
  const auto name = builder.CreateString(options.model.name);
  const auto dtype = builder.CreateString(options.model.kv_dtype);
  const auto engine = builder.CreateString(options.group.engine_id);
  const auto weights = builder.CreateVectorOfStructs(as_wire(options.model.weights), options.model.weights.size());
  const auto all_properties = builder.CreateVector(properties);
  const auto all_groups = builder.CreateVector(groups);
  const Hash config = write_hash(options.model.config_digest);
  return CreateOpen(builder, name, &config, weights, options.model.weights_epoch, dtype, all_properties,
                    options.block_tokens, all_groups, engine, options.group.members, options.group.member);
}

Result<SessionOptions> read_open(const Open& open) {
  SessionOptions options;
  options.model.name = text(open.model_name());
  options.model.config_digest = read_hash(*open.config_digest());
  if (open.weights() != nullptr) {
    for (const Hash* hash : *open.weights()) options.model.weights.push_back(read_hash(*hash));
  }
  options.model.weights_epoch = open.weights_epoch();
  options.model.kv_dtype = text(open.kv_dtype());
  if (open.properties() != nullptr) {
    for (const Property* property : *open.properties()) {
      options.model.properties.emplace_back(property->key()->str(), property->value()->str());
    }
  }
  options.block_tokens = open.block_tokens();
  if (open.groups() != nullptr) {
    for (const Group* group : *open.groups()) {
      TIERCEL_TRY_ASSIGN(auto one, read_group(*group));
      options.layout.groups.push_back(std::move(one));
    }
  }
  options.group = {.engine_id = text(open.engine_id()), .members = open.members(), .member = open.member()};
  return options;
}

flatbuffers::Offset<Error> write_error(flatbuffers::FlatBufferBuilder& builder, const tiercel::Error& error) {
  const auto message = builder.CreateString(error.message);
  return CreateError(builder, static_cast<std::uint8_t>(error.code), error.os_error, message);
}

ErrorCode error_code(unsigned number) noexcept {
  return number <= static_cast<unsigned>(ErrorCode::kIncomplete) ? static_cast<ErrorCode>(number)
                                                                 : ErrorCode::kUnsupported;
}

tiercel::Error read_error(const Error& error) {
  return {.code = error_code(error.code()), .os_error = error.os_error(), .message = text(error.message())};
}

}  // namespace tiercel::wire

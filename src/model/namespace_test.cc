// Goal: every field of a namespace changes the fingerprint, the order of properties and the model's name do not.
#include "model/namespace.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

namespace tiercel {
namespace {

struct Fields {
  std::string tenant = "t";
  ModelIdentity model{
      .config_digest = {}, .weights = {BlockHash{}}, .kv_dtype = "f16", .properties = {{"rope", "1"}, {"build", "2"}}};
  std::uint32_t block_tokens = 64;
  Layout layout = Layout::blob(1000);
  [[nodiscard]] BlockHash operator()() const {
    return fingerprint({.tenant = tenant, .model = model, .block_tokens = block_tokens, .layout = layout});
  }
};

TEST(Namespace, every_field_counts) {
  const std::vector<std::function<void(Fields&)>> changes{
      [](Fields&) {},
      [](Fields& f) { f.tenant = "u"; },
      [](Fields& f) { f.model.config_digest.bytes[31] = std::byte{1}; },
      [](Fields& f) { f.model.weights[0].bytes[0] = std::byte{1}; },
      [](Fields& f) { f.model.weights.emplace_back(); },
      [](Fields& f) { f.model.weights.clear(); },
      [](Fields& f) { f.model.weights_epoch = 1; },
      [](Fields& f) { f.model.kv_dtype = "q8_0"; },
      [](Fields& f) { f.model.properties[0].second = "2"; },
      [](Fields& f) { f.model.properties[0].first = "rop"; },
      [](Fields& f) { f.model.properties.pop_back(); },
      [](Fields& f) { f.block_tokens = 32; },
      [](Fields& f) { f.layout.groups[0].kind = GroupKind::kSlidingWindow; },
      [](Fields& f) { f.layout.groups[0].window_tokens = 1; },
      [](Fields& f) { f.layout.groups[0].runs[0].layer = 1; },
      [](Fields& f) { f.layout.groups[0].runs[0].kind = StateKind::kKey; },
      [](Fields& f) { f.layout.groups[0].runs[0].heads = 1; },
      [](Fields& f) { f.layout.groups[0].runs[0].bytes_per_head_token = 1; },
      [](Fields& f) { f.layout.groups[0].runs[0].opaque_bytes = 1001; },
      [](Fields& f) { f.layout.groups[0].runs.emplace_back(); },
      [](Fields& f) { f.layout.groups.emplace_back(); },
  };
  std::set<BlockHash> seen;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    Fields fields;
    changes[i](fields);
    EXPECT_TRUE(seen.insert(fields()).second) << "change " << i;
  }
}

TEST(Namespace, name_and_order_of_properties_do_not_count) {
  Fields a;
  Fields b;
  b.model.name = "other";
  std::swap(b.model.properties[0], b.model.properties[1]);
  EXPECT_EQ(a(), b());
  a.tenant = "";
  b.tenant = "default";
  EXPECT_EQ(a(), b());
}

TEST(Namespace, refuses_what_has_no_one_meaning) {
  ModelIdentity model{.properties = {{"a", "1"}, {"b", "1"}, {"a", "2"}}};
  EXPECT_NE(check_namespace(model, 64).error().message.find("\"a\" is given twice"), std::string::npos);
  EXPECT_FALSE(check_namespace({}, 0));
  EXPECT_FALSE(check_namespace({}, 65'537));
  EXPECT_TRUE(check_namespace({}, 65'536));
}

}  // namespace
}  // namespace tiercel

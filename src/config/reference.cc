#include "config/reference.h"

#include "config/setting_value.h"

#include <fmt/format.h>

namespace tiercel::config {
namespace {

constexpr std::string_view kIntroduction = R"(# Configuration

<!-- Generated from the table in src/config/setting.cc; run the test config_reference_test with
     TIERCEL_REGENERATE=1 in the environment to write it again. -->

Every setting can stand in a TOML file (`--config FILE`) and on the command line, where its flag is its key with
dashes. Flags go before files, and of several files the later goes before the earlier. Bad values are refused at
start, with the key, the value and what would be valid; nothing starts by half.

What is marked *(live)* a running `tiercel serve` takes over with `tiercel reload` or on SIGHUP; for the rest it names
the keys that changed and need a restart.

The tables `http`, `metrics` and `service` are of `tiercel serve`. One file may serve every program of a machine: a program that
listens nowhere checks them and makes no use of them. Their flags are taken by `tiercel serve` alone.

```toml
[host]
capacity = "256GiB"
[disk]
directories = ["/nvme0/kv", "/nvme1/kv"]
capacity = "4TiB"            # in total over the directories
```

| form | in TOML | as a flag |
|---|---|---|
| byte count | `"8GiB"`, `"1.5GiB"`, `"10GB"`, `4096`; units B, KB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (of 1024) | `8GiB` |
| time | `"200ms"`, `"10s"`, `"10min"`, `"1h"`; always with its unit | `200ms` |
| percentage | `80` or `"80%"` | `80` or `80%` |
| whole number | `4096` | `4096` |
| boolean | `true`, `false` | the flag alone for `true`; or `true`, `false` after it |
| choice | `"auto"` | `auto` |
| text | `"127.0.0.1:9800"` | `127.0.0.1:9800` |
| list | `["/a", "/b"]` | `/a,/b`, or the flag once for each; replaces the list of a file |
)";

std::string row(const Setting& setting) {
  std::string flag = "`" + flag_of(setting) + "`";
  if (!setting.alias.empty()) flag += fmt::format(", `{}`", setting.alias);
  const std::string standard = setting.list != nullptr ? "none" : fmt::format("`{}`", default_of(setting));
  std::string meaning(setting.meaning);
  if (!setting.range.zero.empty()) meaning += fmt::format("; 0: {}", setting.range.zero);
  if (setting.live) meaning += " *(live)*";
  return fmt::format("| `{}` | {} | {} | {} | {} |\n", setting.key, flag, standard, valid_values(setting), meaning);
}

}  // namespace

std::string reference_markdown() {
  std::string text(kIntroduction);
  std::string_view table;
  for (const Setting& setting : settings()) {
    if (table_of(setting) != table) {
      table = table_of(setting);
      text += fmt::format("\n## {}\n\n| key | flag | default | valid | meaning |\n|---|---|---|---|---|\n", table);
    }
    text += row(setting);
  }
  return text;
}

}  // namespace tiercel::config

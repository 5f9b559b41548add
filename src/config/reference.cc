#include "config/reference.h"

#include "config/setting_value.h"
#include "config/tenants.h"

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

constexpr std::string_view kTenants = R"(
## tenants

A tenant is a part of the namespace that a session chooses (`session.space("search")`); each block belongs to exactly
one. `default` is the tenant of sessions that name none, `shared` the one by which tenants share prompts: a session
that wants that asks for it by name, and its blocks are charged to `shared` alone. A table a tenant, in TOML only (a
command line has no flags for them); a quoted name may hold any text:

```toml
[tenants.search]
host_guarantee = "20%"       # of the tier; or bytes: "8GiB"
host_cap = "50%"
```

A tenant that is not named is promised nothing and may use everything. A cap is at least the guarantee; the guarantees
of a tier are at most the tier. Usage is counted in slots. A store or load that needs room in a full tier takes it
from a tenant that is above its guarantee, and never from one that would fall below it: from its own tenant first,
unless another's coldest block has lain unused more than twice as long. A tenant at its cap makes room from its own
blocks alone; where none of them may go, the answer is `busy`. Who holds how much of what is on the live page, in
`tiercel status` and in the metrics ([tenants](operations.md#tenants)).

| key | default | meaning |
|---|---|---|
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
  text += kTenants;
  for (const TenantSetting& setting : tenant_settings()) {
    text += fmt::format("| `tenants.NAME.{}` | {} | {} |\n", setting.key, setting.standard, setting.meaning);
  }
  return text;
}

}  // namespace tiercel::config

// AdminCalls::Answer: what an admin call answers, before it is text. For the files that implement the calls.
#pragma once

#include "service/admin/calls.h"

#include <nlohmann/json.hpp>

#include <string>

namespace tiercel::service {

struct AdminCalls::Answer {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  std::string log = {};  ///< empty: nothing was changed, and nothing is logged
};

}  // namespace tiercel::service

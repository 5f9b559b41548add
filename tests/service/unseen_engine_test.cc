// Goal: engines whose process numbers the service cannot see, because they run in other containers, have names of their
// own. The service runs in a process namespace of its own, so that this test is of another one.
// Usage: unseen_engine_test --host PROGRAM.
#include "tests/crash/crash_blocks.h"
#include "tests/service/service_programs.h"

#include <tiercel/client.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace tiercel {
namespace {

class UnseenEngine : public ServicePrograms {};

TEST_F(UnseenEngine, without_an_id_has_a_name_of_its_own) {
  if (std::system("unshare --pid --fork true 2>/dev/null") != 0) {  // NOLINT(concurrency-mt-unsafe)
    GTEST_SKIP() << "this user may not make a process namespace";
  }
  ASSERT_NO_FATAL_FAILURE(start_host({}, {"/usr/bin/unshare", "--pid", "--fork", "--kill-child"}));
  std::vector<Client> clients;
  std::vector<Session> sessions;
  for (int i = 0; i < 2; ++i) {
    auto client = Client::connect({.socket = socket_, .call_deadline = 20s});
    ASSERT_TRUE(client) << client.error().message;
    clients.push_back(std::move(*client));
    auto session = clients.back().open_session(crash::options());
    ASSERT_TRUE(session) << session.error().message;
    sessions.push_back(std::move(*session));
    EXPECT_TRUE(clients.back().sync());  // by then the service has noted it
  }
  // Each client has connected once before its session did.
  EXPECT_EQ(figures("engines\n"), "crash (connection 1-2), crash (connection 1-4), ");
  sessions.clear();
  clients.clear();
  host_->end_input();
  EXPECT_EQ(host_->ended(20s), 0);
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) { return tiercel::run_service_tests(argc, argv); }

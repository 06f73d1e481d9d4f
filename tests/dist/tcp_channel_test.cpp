#include "dist/tcp_channel.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/error.h"
#include "dist/agreement.h"
#include "loopback.h"
#include "support/catch.h"

using namespace sluice;

namespace {

// What body(rank) threw on each rank, "" where nothing.
std::vector<std::string> errors_on_ranks(int world_size, const std::function<void(int)>& body) {
  std::vector<std::string> errors(static_cast<size_t>(world_size));
  test::on_ranks(world_size, [&](int rank) {
    try {
      body(rank);
    } catch (const Error& error) {
      errors[static_cast<size_t>(rank)] = fmt::format("{} {}", error.exit_code(), error.what());
    }
  });
  return errors;
}

}  // namespace

TEST_CASE("ranks over TCP give each other their bytes in order") {
  const auto meeting = test::meeting_at(test::free_port());
  std::array<std::vector<std::byte>, 3> all;
  std::array<World, 3> worlds;
  test::on_ranks(3, [&](int rank) {
    TcpChannel channel(meeting, rank, 3);
    worlds[static_cast<size_t>(rank)] = discover_world(channel);
    const std::vector<std::byte> mine(100000, static_cast<std::byte>(rank + 1));
    all[static_cast<size_t>(rank)] = channel.all_gather(mine);
  });
  for (int rank = 0; rank < 3; ++rank) {
    const auto& got = all[static_cast<size_t>(rank)];
    REQUIRE(got.size() == 300000);
    for (size_t i = 0; i < got.size(); ++i) REQUIRE(got[i] == static_cast<std::byte>(i / 100000 + 1));
    const World& world = worlds[static_cast<size_t>(rank)];
    CHECK(world.local_rank == rank);
    CHECK(world.local_size == 3);
    CHECK(world.host_count() == 1);
  }
}

TEST_CASE("a rank that does not come is named, and nobody waits for ever") {
  const auto meeting = test::meeting_at(test::free_port(), 0.5);
  const auto errors = errors_on_ranks(2, [&](int rank) { TcpChannel(meeting, rank, 3); });
  CHECK_THAT(errors[0], test::contains("2 rank(s) 2 of 3 did not reach rank 0"));
  const auto alone = errors_on_ranks(1, [&](int) { TcpChannel(meeting, 1, 2); });
  CHECK_THAT(alone[0], test::contains("2 rank 1 did not reach rank 0 at 127.0.0.1"));
}

TEST_CASE("processes of another job, world size or of one rank are turned away") {
  const int port = test::free_port();
  const auto errors = errors_on_ranks(5, [&](int index) {
    auto meeting = test::meeting_at(port, 3);
    if (index == 2) meeting.job = "another";
    if (index < 2) {
      TcpChannel(meeting, index, 3);  // rank 2 never comes, so that the meeting stays open for the others
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      TcpChannel(meeting, 1, index == 3 ? 4 : 3);
    }
  });
  CHECK_THAT(errors[2], test::contains("belongs to another job"));
  CHECK_THAT(errors[3], test::contains("expects another world size than 4"));
  CHECK_THAT(errors[4], test::contains("two processes are rank 1"));
}

TEST_CASE("a rank that ends is noticed") {
  const auto meeting = test::meeting_at(test::free_port());
  const auto errors = errors_on_ranks(2, [&](int rank) {
    TcpChannel channel(meeting, rank, 2);
    const std::byte byte{};
    if (rank == 0) channel.all_gather(std::span(&byte, 1));
  });
  CHECK_THAT(errors[0], test::contains("1 the connection to rank 1 is gone"));
}

TEST_CASE("sizes that differ are an error, not a mixture") {
  const auto meeting = test::meeting_at(test::free_port());
  const auto errors = errors_on_ranks(2, [&](int rank) {
    TcpChannel channel(meeting, rank, 2);
    channel.all_gather(std::vector<std::byte>(rank == 0 ? 8 : 16));
  });
  CHECK_THAT(errors[0], test::contains("rank 1 sends 16 bytes where rank 0 sends 8"));
}

TEST_CASE("the meeting place is that of the environment") {
  for (const char* name : {"MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"}) ::unsetenv(name);
  CHECK_THROWS_WITH(meeting_from_environment(1), test::contains("MASTER_ADDR is not set"));
  ::setenv("MASTER_ADDR", "localhost", 1);
  CHECK_THROWS_WITH(meeting_from_environment(1), test::contains("MASTER_PORT is not set"));
  ::setenv("MASTER_PORT", "x1", 1);
  CHECK_THROWS_WITH(meeting_from_environment(1), test::contains("MASTER_PORT is \"x1\""));
  ::setenv("MASTER_PORT", "29500", 1);
  CHECK(meeting_from_environment(1).port == 29500);
  // torchrun's own store has the port.
  ::setenv("TORCHELASTIC_RUN_ID", "a", 1);
  CHECK(meeting_from_environment(1).port == 29501);
  for (const char* name : {"MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"}) ::unsetenv(name);
}

TEST_CASE("ranks that differ are told apart by rank, host and part") {
  const auto meeting = test::meeting_at(test::free_port());
  const auto errors = errors_on_ranks(3, [&](int rank) {
    auto channel = std::make_unique<TcpChannel>(meeting, rank, 3);
    World world = discover_world(*channel);
    test::LoopbackCommunicator communicator(std::move(channel), std::move(world));
    std::vector<AgreedPart> parts = {{"the program", "same"}, {"the training data", "same"}};
    require_agreement(communicator, parts);
    if (rank == 1) parts[1].value = "other";
    require_agreement(communicator, parts);
  });
  for (const std::string& error : errors) {
    CHECK_THAT(error, test::contains("2 rank 1 on "));
    CHECK_THAT(error, test::contains("differs from rank 0 on "));
    CHECK_THAT(error, test::contains("in the training data"));
  }
}

// A rank that meets the others over TCP and then is busy by itself, as in a long computation, until somebody
// ends it.
#include <cstdio>
#include <thread>

#include "core/error.h"
#include "dist/launch.h"
#include "dist/tcp_channel.h"
#include "dist/watchdog.h"
#include "loopback.h"

using namespace sluice;

int main() {
  try {
    const LaunchIdentity identity = detect_launch();
    auto channel =
        std::make_unique<TcpChannel>(meeting_from_environment(20), identity.rank, identity.world_size);
    World world = discover_world(*channel);
    test::LoopbackCommunicator communicator(std::move(channel), std::move(world));
    Watchdog watchdog(communicator);
    watchdog.enter("long computation", 1, 0);
    communicator.barrier();
    std::puts("met");
    std::fflush(stdout);
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  }
}

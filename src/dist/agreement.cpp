#include "dist/agreement.h"

#include "core/error.h"
#include "core/sha256.h"

namespace sluice {
namespace {

uint64_t hash_of(const std::string& text) {
  return std::stoull(sha256_hex(std::as_bytes(std::span(text))).substr(0, 16), nullptr, 16);
}

}  // namespace

void require_agreement(Communicator& communicator, std::span<const AgreedPart> parts) {
  if (communicator.world_size() == 1) return;
  const World& world = communicator.world();
  for (const AgreedPart& part : parts) {
    const auto hashes = communicator.all_gather(hash_of(part.name + '\n' + part.value));
    for (int rank = 1; rank < communicator.world_size(); ++rank) {
      SLUICE_CHECK(hashes[static_cast<size_t>(rank)] == hashes[0], kUsage,
                   "{} differs from {} in {}; all processes of a run need the same", world.name_of(rank),
                   world.name_of(0), part.name);
    }
  }
}

std::string program_fingerprint() { return sha256_file("/proc/self/exe", ErrorKind::kUsage); }

}  // namespace sluice

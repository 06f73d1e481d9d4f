// Whether all ranks are about to do the same: before the first step each tells a hash of what it has.
#pragma once

#include <span>
#include <string>

#include "dist/communicator.h"

namespace sluice {

struct AgreedPart {
  std::string name;   // "the config's section optimizer", for the message
  std::string value;  // anything that is equal exactly where the part is
};

// Parts in one order on every rank. Error(kUsage), on all ranks, names the first part that differs and the
// first rank that has it otherwise than rank 0.
void require_agreement(Communicator& communicator, std::span<const AgreedPart> parts);

// A hash of the running program's file.
std::string program_fingerprint();

}  // namespace sluice

// A timeline in the Chrome trace format, which https://ui.perfetto.dev and chrome://tracing open.
#pragma once

#include <string>

#include "profile/timeline.h"

namespace sluice::profile {

// JSON. `rank` is the process number; the host's threads and the GPU's streams are its tracks. Times are
// those of the host's monotonic clock, so that ranks of one host lie side by side when their events are put
// in one file.
std::string to_chrome_trace(const Timeline& timeline, int rank);

}  // namespace sluice::profile

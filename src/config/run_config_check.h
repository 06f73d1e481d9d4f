// What no single key of a run can show: settings that contradict each other.
#pragma once

#include "config/run_config.h"

namespace sluice {

// Keys that have a problem already are left alone.
void check_run_config(const RunConfig& config, Problems& problems);

}  // namespace sluice

// The bundled page of tools/report/web, made by the build, or why the build has none.
#pragma once

#include <string_view>

namespace sluice {

extern const std::string_view kReportPage;           // empty when missing
extern const std::string_view kReportMissingReason;  // empty when there

}  // namespace sluice

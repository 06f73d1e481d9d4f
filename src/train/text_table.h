// Tables of a report, as text.
#pragma once

#include <string>
#include <vector>

namespace sluice {

// Columns as wide as their widest cell, right-aligned, the first `left` of them left-aligned, two spaces
// between. All rows have the first one's number of cells.
std::string format_table(const std::vector<std::vector<std::string>>& rows, size_t left = 0);

}  // namespace sluice

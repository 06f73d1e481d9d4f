// Several models' evaluations, as `evaluate --json` wrote them, in one picture.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sluice {

// Perplexity by position, a line for each evaluation, of the longest length that all of them have.
// Error(kData) names the file that is no evaluation, and both files where data or convention differ or no
// length is common: their perplexities must not be compared.
std::string compare_evaluations(const std::vector<std::filesystem::path>& files);

}  // namespace sluice

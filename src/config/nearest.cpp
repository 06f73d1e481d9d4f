#include "config/nearest.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

namespace sluice {
namespace {

constexpr size_t kMaximumLength = 64;

std::string simplified(std::string_view word) {
  std::string result;
  for (const char c : word) {
    if (c != '_' && c != '-') result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return result;
}

}  // namespace

std::optional<int64_t> slip_distance(std::string_view typed, std::string_view word) {
  if (typed.size() > kMaximumLength || word.size() > kMaximumLength) return std::nullopt;
  const std::string a = simplified(typed);
  const std::string b = simplified(word);
  // rows[i][j]: distance between the first i letters of a and the first j of b.
  std::vector<std::vector<int64_t>> rows(a.size() + 1, std::vector<int64_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        rows[i][j] = static_cast<int64_t>(i + j);
        continue;
      }
      const int64_t replaced = rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      rows[i][j] = std::min({replaced, rows[i - 1][j] + 1, rows[i][j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        rows[i][j] = std::min(rows[i][j], rows[i - 2][j - 2] + 1);
      }
    }
  }
  const int64_t distance = rows[a.size()][b.size()];
  const int64_t longer = static_cast<int64_t>(std::max(a.size(), b.size()));
  if (distance > std::max<int64_t>(1, longer / 3) || distance >= longer) return std::nullopt;
  return distance;
}

}  // namespace sluice

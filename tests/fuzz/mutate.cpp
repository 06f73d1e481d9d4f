#include "mutate.h"

#include <cstring>
#include <limits>

#include "core/random.h"

namespace sluice::fuzz {
namespace {

// Where sizes and counts go wrong.
constexpr int64_t kNumbers[] = {0,
                                1,
                                2,
                                -1,
                                127,
                                128,
                                255,
                                256,
                                32767,
                                65535,
                                65536,
                                std::numeric_limits<int32_t>::max(),
                                int64_t{1} << 31,
                                int64_t{1} << 32,
                                std::numeric_limits<int64_t>::max(),
                                std::numeric_limits<int64_t>::min()};

constexpr const char* kPieces[] = {
    "{",    "}",    "[",           "]",     ",",    ":",          "\"",
    "\\",   "null", "-",           "1e999", "true", "4294967296", "18446744073709551616",
    "\xFF", "\xC3", "\"\\ud800\"", "\n",    "//",   "../",        "0.5"};

class Edits {
 public:
  Edits(std::string bytes, const Philox& random, uint64_t draw)
      : bytes_(std::move(bytes)), random_(random), draw_(draw) {}

  uint64_t below(uint64_t count) { return random_.bits64(draw_++) % count; }

  void apply_one() {
    if (bytes_.empty()) {
      bytes_ = kPieces[below(std::size(kPieces))];
      return;
    }
    const size_t at = below(bytes_.size());
    switch (below(8)) {
      case 0:
        bytes_[at] = static_cast<char>(below(256));
        break;
      case 1:
        bytes_[at] = static_cast<char>(bytes_[at] ^ (1 << below(8)));
        break;
      case 2:
        bytes_.erase(at, 1 + below(20));
        break;
      case 3:
        bytes_.insert(at, bytes_.substr(below(bytes_.size()), below(60)));
        break;
      case 4:
        bytes_.insert(at, kPieces[below(std::size(kPieces))]);
        break;
      case 5: {  // a binary number
        const size_t width = size_t{1} << below(4);
        const int64_t number = kNumbers[below(std::size(kNumbers))];
        if (at + width <= bytes_.size()) std::memcpy(bytes_.data() + at, &number, width);
        break;
      }
      case 6:
        replace_decimal(at);
        break;
      default:
        bytes_.resize(below(4) == 0 ? at : bytes_.size() - 1);
        break;
    }
  }

  std::string take() { return std::move(bytes_); }

 private:
  // The number written in digits at or behind `at`.
  void replace_decimal(size_t at) {
    const size_t begin = bytes_.find_first_of("0123456789", at);
    if (begin == std::string::npos) return;
    const size_t end = std::min(bytes_.find_first_not_of("0123456789", begin), bytes_.size());
    bytes_.replace(begin, end - begin, std::to_string(kNumbers[below(std::size(kNumbers))]));
  }

  std::string bytes_;
  const Philox& random_;
  uint64_t draw_;
};

}  // namespace

std::string mutated(const std::vector<std::string>& seeds, uint64_t stream, uint64_t index) {
  const Philox random(7001 + stream, index);
  Edits edits(seeds[random.bits64(0) % seeds.size()], random, 1);
  for (uint64_t left = 1 + edits.below(8); left > 0; --left) edits.apply_one();
  return edits.take();
}

}  // namespace sluice::fuzz

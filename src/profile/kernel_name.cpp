#include "profile/kernel_name.h"

namespace sluice::profile {
namespace {

void erase_all(std::string& text, const std::string& part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at))
    text.erase(at, part.size());
}

}  // namespace

std::string short_kernel_name(const std::string& demangled) {
  std::string name = demangled;
  erase_all(name, "(anonymous namespace)::");
  erase_all(name, "<unnamed>::");
  size_t begin = 0, end = name.size();
  int depth = 0;  // in template arguments
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>' && depth > 0) --depth;
    if (depth > 0) continue;
    if (name[i] == '(') {
      end = i;
      break;
    }
    if (name[i] == ' ' || name[i] == ':') begin = i + 1;
  }
  return begin < end ? name.substr(begin, end - begin) : demangled;
}

bool is_collective(const std::string& short_name) {
  return short_name.starts_with("ncclDevKernel") || short_name.starts_with("ncclKernel");
}

}  // namespace sluice::profile

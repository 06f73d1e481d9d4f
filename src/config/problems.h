// What is wrong with a file, collected so that its author sees everything at once.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace sluice {

class Problems {
 public:
  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }

  // `path` is the key's full path, "optimizer.lr" or "data.train.0.path"; empty for the file as a whole.
  void add(std::string path, std::string message);
  // Whether `path`, something around it or something inside it has a problem already; checks across keys ask,
  // so that they do not judge a default that stands in for a value that could not be read.
  bool concerns(std::string_view path) const;

  // One Error that lists all of them, a line each, below "ORIGIN: 3 problems"; nothing when there are none.
  void throw_if_any(const std::string& origin, ErrorKind kind) const;

 private:
  struct Entry {
    std::string path;
    std::string message;
  };
  std::vector<Entry> entries_;
};

}  // namespace sluice

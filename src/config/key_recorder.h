// What keys a reader asks its object for: the facts of a config reference, taken from the reading itself.
#pragma once

#include <string>
#include <vector>

namespace sluice {

struct KeyFact {
  std::string path;      // "optimizer.lr"
  std::string type;      // "integer", "number", "boolean", "string", "list of strings", "any"
  std::string fallback;  // as JSON; empty for "any"
  std::string
      bounds;  // "1 to 1024", "at least 0", "\"auto\", \"cpu\" or \"cuda\""; empty where all is allowed
  bool required = false;
};

// While one exists, every getter of an ObjectReader of this thread adds what it was called with, once a path,
// in the order of the calls.
class KeyRecorder {
 public:
  KeyRecorder();
  ~KeyRecorder();
  KeyRecorder(const KeyRecorder&) = delete;
  KeyRecorder& operator=(const KeyRecorder&) = delete;

  const std::vector<KeyFact>& facts() const { return facts_; }

  // nullptr where there is none.
  static KeyRecorder* current();
  void add(KeyFact fact);

 private:
  std::vector<KeyFact> facts_;
  KeyRecorder* outer_;
};

}  // namespace sluice

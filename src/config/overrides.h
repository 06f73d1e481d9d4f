// Changes to a JSON file from the command line: --set optimizer.lr=1e-3.
#pragma once

#include <string>
#include <string_view>

#include "config/json.h"

namespace sluice {

struct Override {
  std::string path;   // "optimizer.lr"
  std::string value;  // as typed
};

// Splits at the first '='. Error(kUsage) without one, or without a path.
Override parse_override(std::string_view text);

// Sets the value at a path of keys and list indices: "data.train.0.weight=2". The value is JSON; what is none
// and does not start like a list, an object or a quoted string is a string: "train.device=cpu". Sections that
// are missing are made, an index one past the end appends. Error(kUsage) on broken JSON, an index out of
// range, or a path that leads into a value that is neither object nor list; `root` is then unchanged. Whether
// the key means anything is for the reader of `root` to say.
void apply_override(Json& root, std::string_view text);

}  // namespace sluice

// From the paths that users write to token files.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/token_file.h"

namespace sluice {

// Chosen by content: Megatron when an .idx stands beside, llm.c by its magic, bare uint16 otherwise.
TokenFile open_token_file(const std::filesystem::path& path);

// The token files `source` stands for, sorted by name: a file; a directory (every *.bin in it); a glob
// pattern; or a Megatron prefix P, where P.bin and P.idx exist. Error(kData) when there are none.
std::vector<std::filesystem::path> expand_sources(const std::string& source);

}  // namespace sluice

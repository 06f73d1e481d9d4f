#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/token_stream.h"
#include "data/tokenizer.h"
#include "tools/tokenize/commands.h"

namespace sluice::tokenize {
namespace {

struct Arguments {
  std::string tokenizer, shards;
  int64_t first = 0, count = -1;
};

void print(const std::string& text) {
  SLUICE_CHECK(std::fwrite(text.data(), 1, text.size(), stdout) == text.size(), kData,
               "standard output: cannot write: {}", std::strerror(errno));
}

int run(const Arguments& arguments) {
  const Tokenizer tokenizer(arguments.tokenizer);
  const TokenStream stream(arguments.shards);
  SLUICE_CHECK(arguments.first <= stream.size(), kUsage, "--first {} is behind the last of {} tokens of {}",
               arguments.first, stream.size(), arguments.shards);
  const int64_t left = stream.size() - arguments.first;
  const int64_t count = arguments.count < 0 ? left : std::min(arguments.count, left);
  StreamDecoder decoder(tokenizer);
  std::vector<int32_t> tokens;
  for (int64_t done = 0; done < count; done += static_cast<int64_t>(tokens.size())) {
    tokens.resize(static_cast<size_t>(std::min<int64_t>(1 << 16, count - done)));
    stream.read(arguments.first + done, tokens);
    std::string text;
    for (const int32_t token : tokens) text += decoder.push(token);
    print(text);
  }
  print(decoder.finish());
  SLUICE_CHECK(std::fflush(stdout) == 0, kData, "standard output: cannot write: {}", std::strerror(errno));
  return 0;
}

}  // namespace

void add_decode(CLI::App& app, Action& chosen) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("decode", "Print the text of token shards; document tokens print nothing.");
  command->add_option("--tokenizer", arguments->tokenizer, "sentencepiece model")->required();
  command->add_option("shards", arguments->shards, "a shard, or a directory or quoted pattern of shards")
      ->required();
  command->add_option("--first", arguments->first, "position of the first token")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--count", arguments->count, "tokens to print; default: to the end")
      ->check(CLI::NonNegativeNumber);
  command->callback([arguments, &chosen] { chosen = [arguments] { return run(*arguments); }; });
}

}  // namespace sluice::tokenize

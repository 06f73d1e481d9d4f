#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "config/json.h"
#include "core/error.h"
#include "core/progress.h"
#include "data/token_stream.h"
#include "data/tokenizer.h"
#include "tools/tokenize/commands.h"
#include "tools/tokenize/manifest.h"

namespace sluice::tokenize {
namespace {

constexpr int32_t kLargestVocabulary = 1 << 24;

struct Arguments {
  std::vector<std::string> sources;
  std::string tokenizer;
  int64_t document_token = -1;
  int64_t top = 20;
};

// How often each id occurs.
std::vector<int64_t> count_tokens(const TokenStream& stream) {
  std::vector<int64_t> counts;
  std::vector<int32_t> tokens;
  Progress progress("counting", static_cast<double>(stream.size()), "tokens");
  for (int64_t done = 0; done < stream.size(); done += static_cast<int64_t>(tokens.size())) {
    tokens.resize(static_cast<size_t>(std::min<int64_t>(1 << 20, stream.size() - done)));
    stream.read(done, tokens);
    const int32_t largest = *std::max_element(tokens.begin(), tokens.end());
    SLUICE_CHECK(largest < kLargestVocabulary, kData,
                 "id {} among tokens {} to {}: no vocabulary is that large", largest, done,
                 done + static_cast<int64_t>(tokens.size()) - 1);
    if (largest >= static_cast<int64_t>(counts.size())) counts.resize(static_cast<size_t>(largest) + 1);
    for (const int32_t token : tokens) ++counts[static_cast<size_t>(token)];
    progress.update(static_cast<double>(done));
  }
  return counts;
}

void print_most_frequent(const std::vector<int64_t>& counts, int64_t total, int64_t top,
                         const Tokenizer* tokenizer) {
  std::vector<int32_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0);
  const auto shown = std::min(order.size(), static_cast<size_t>(top));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](int32_t a, int32_t b) {
                      const auto left = counts[static_cast<size_t>(a)],
                                 right = counts[static_cast<size_t>(b)];
                      return left != right ? left > right : a < b;
                    });
  for (size_t i = 0; i < shown && counts[static_cast<size_t>(order[i])] > 0; ++i) {
    const int64_t count = counts[static_cast<size_t>(order[i])];
    const bool named = tokenizer != nullptr && order[i] < tokenizer->vocabulary_size();
    fmt::print("  {:>8} {:>14} {:>7.3f}%  {}\n", order[i], count,
               100.0 * static_cast<double>(count) / static_cast<double>(total),
               named ? printable(tokenizer->piece(order[i])) : "");
  }
}

void print_source(const Arguments& arguments, const std::string& source, const Tokenizer* tokenizer) {
  const TokenStream stream(source);
  const auto counts = count_tokens(stream);
  const auto manifest = find_manifest(stream.files().front().path());
  std::optional<int64_t> document_token;
  if (arguments.document_token >= 0) {
    document_token = arguments.document_token;
  } else if (manifest) {
    document_token = manifest->document_token;
  } else if (tokenizer != nullptr && tokenizer->bos_id() >= 0) {
    document_token = tokenizer->bos_id();
  }
  int64_t known_documents = 0;
  for (const TokenFile& file : stream.files()) {
    known_documents += static_cast<int64_t>(file.document_starts().size());
    fmt::print("{}: {}, {} tokens, {} bytes\n", file.path().string(), file.format(), file.size(),
               file.file_bytes());
  }
  const auto distinct = std::count_if(counts.begin(), counts.end(), [](int64_t count) { return count > 0; });
  fmt::print("tokens     {}\ndistinct   {}, the largest id is {}\n", stream.size(), distinct,
             counts.size() - 1);
  if (known_documents > 0) {
    fmt::print("documents  {}\n", known_documents);
  } else if (document_token) {
    const bool seen = *document_token < static_cast<int64_t>(counts.size());
    fmt::print("documents  {} (token {})\n", seen ? counts[static_cast<size_t>(*document_token)] : 0,
               *document_token);
  }
  if (manifest) {
    fmt::print("whole set  {} documents, {} tokens, {} bytes of text, {:.3f} bytes per token\n",
               manifest->documents, manifest->tokens, manifest->bytes,
               static_cast<double>(manifest->bytes) / static_cast<double>(manifest->tokens));
  }
  if (arguments.top > 0) {
    fmt::print("most frequent (id, count, share):\n");
    print_most_frequent(counts, stream.size(), arguments.top, tokenizer);
  }
}

int run(const Arguments& arguments) {
  std::optional<Tokenizer> tokenizer;
  if (!arguments.tokenizer.empty()) tokenizer.emplace(arguments.tokenizer);
  for (const std::string& source : arguments.sources) {
    print_source(arguments, source, tokenizer ? &*tokenizer : nullptr);
  }
  return 0;
}

}  // namespace

void add_stats(CLI::App& app, Action& chosen) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "stats",
      "Count tokens and documents of shards, and list the most frequent tokens; with the PREFIX.json "
      "of `tokenize encode` beside them, bytes per token too. Also reads Megatron and bare uint16.");
  command->add_option("shards", arguments->sources, "shards, or directories or quoted patterns of shards")
      ->required();
  command->add_option("--tokenizer", arguments->tokenizer, "sentencepiece model, to name the tokens");
  command
      ->add_option("--document-token", arguments->document_token,
                   "first token of a document; default: as PREFIX.json or the tokenizer says")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--top", arguments->top, "how many tokens to list")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->callback([arguments, &chosen] { chosen = [arguments] { return run(*arguments); }; });
}

}  // namespace sluice::tokenize

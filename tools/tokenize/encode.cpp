#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/log.h"
#include "core/progress.h"
#include "core/random.h"
#include "data/shard_writer.h"
#include "data/text_source.h"
#include "data/tokenizer.h"
#include "tools/tokenize/commands.h"
#include "tools/tokenize/encode_pool.h"
#include "tools/tokenize/manifest.h"

namespace sluice::tokenize {
namespace {

constexpr const char* kHeldOutPrefix = "validation";
constexpr int64_t kBatchBytes = int64_t{1} << 20;

struct Arguments {
  std::vector<std::string> inputs, extensions;
  std::string tokenizer, output, prefix = "train", field = "text";
  int64_t shard_tokens = 100'000'000;
  int64_t held_out_every = 0;
  double validation_fraction = 0;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
};

// Why a prefix got none of the documents, and what to change.
std::string reason_for_none(const Arguments& arguments, const std::string& prefix, int64_t documents) {
  if (documents < 2) return "there is one; text in several files can be split";
  if (prefix != kHeldOutPrefix) return "all were held out";
  if (arguments.held_out_every == 0) {
    return fmt::format("there are {}; choose a larger --validation-fraction than {}", documents,
                       arguments.validation_fraction);
  }
  return fmt::format("there are {} and every {}th is held out; choose --held-out-every {} or less", documents,
                     arguments.held_out_every, documents);
}

// One prefix: its shards and what went into them.
struct Output {
  Output(const Arguments& arguments, const std::string& name, const Tokenizer& tokenizer)
      : prefix(name), writer(arguments.output, name, tokenizer.vocabulary_size(), arguments.shard_tokens) {
    manifest.document_token = tokenizer.bos_id();
  }

  // documents: of all prefixes.
  void finish(const Arguments& arguments, const Tokenizer& tokenizer, int64_t documents) {
    const auto shards = writer.finish();
    if (shards.empty()) {
      log::warning("no document went to {}: {}", prefix, reason_for_none(arguments, prefix, documents));
      return;
    }
    manifest.tokens = writer.tokens();
    write_manifest(arguments.output, prefix, manifest, tokenizer, shards);
    // The pattern and not the directory, which may hold held-out shards as well.
    fmt::print("{}: {} documents, {} bytes, {} tokens ({:.3f} bytes per token), {} shard(s): {}/{}_*.bin\n",
               prefix, manifest.documents, manifest.bytes, manifest.tokens,
               static_cast<double>(manifest.bytes) / static_cast<double>(manifest.tokens), shards.size(),
               arguments.output, prefix);
  }

  std::string prefix;
  ShardWriter writer;
  Manifest manifest;
};

bool is_held_out(const Arguments& arguments, int64_t document) {
  if (arguments.held_out_every > 0) return (document + 1) % arguments.held_out_every == 0;
  return Philox(0).uniform(static_cast<uint64_t>(document)) < arguments.validation_fraction;
}

void store(const Arguments& arguments, const TokenBatch& batch, Output& kept, Output* held_out) {
  size_t begin = 0;
  for (size_t i = 0; i < batch.pieces.size(); ++i) {
    const TextPiece& piece = batch.pieces[i];
    Output& output = held_out != nullptr && is_held_out(arguments, piece.document) ? *held_out : kept;
    output.writer.append(std::span(batch.tokens).subspan(begin, batch.ends[i] - begin));
    output.manifest.documents += piece.begins_document ? 1 : 0;
    output.manifest.bytes += batch.bytes[i];
    begin = batch.ends[i];
  }
}

TextBatch read_batch(TextSource& source) {
  TextBatch batch;
  TextPiece piece;
  while (batch.bytes < kBatchBytes && source.next(piece)) {
    batch.bytes += static_cast<int64_t>(piece.text.size());
    batch.pieces.push_back(std::move(piece));
  }
  return batch;
}

int run(const Arguments& arguments) {
  const bool splits = arguments.held_out_every > 0 || arguments.validation_fraction > 0;
  SLUICE_CHECK(!splits || arguments.prefix != kHeldOutPrefix, kUsage,
               "--prefix {} is where held-out documents go; choose another", kHeldOutPrefix);
  const Tokenizer tokenizer(arguments.tokenizer);
  SLUICE_CHECK(tokenizer.bos_id() >= 0, kData,
               "{}: has no bos token (<s>), which begins every document; use a model that has one",
               arguments.tokenizer);
  TextOptions options;
  options.field = arguments.field;
  options.extensions = arguments.extensions;
  TextSource source({arguments.inputs.begin(), arguments.inputs.end()}, options);
  Output kept(arguments, arguments.prefix, tokenizer);
  std::unique_ptr<Output> held_out;
  if (splits) held_out = std::make_unique<Output>(arguments, kHeldOutPrefix, tokenizer);

  const auto start = std::chrono::steady_clock::now();
  int64_t bytes = 0;
  {
    Progress progress("tokenizing", static_cast<double>(source.bytes_total()) / 1e6, "MB");
    EncodePool pool(tokenizer, tokenizer.bos_id(), arguments.threads);
    for (bool more = true; more || !pool.is_empty();) {
      while (more && !pool.is_full()) {
        TextBatch batch = read_batch(source);
        more = !batch.pieces.empty();
        bytes += batch.bytes;
        if (more) pool.submit(std::move(batch));
      }
      if (!pool.is_empty()) store(arguments, pool.take(), kept, held_out.get());
      progress.update(static_cast<double>(source.bytes_read()) / 1e6,
                      format_count(static_cast<double>(kept.writer.tokens())) + " tokens");
    }
  }
  SLUICE_CHECK(source.documents() > 0, kData, "{}: holds no text", arguments.inputs.front());
  if (source.replaced() > 0) {
    log::warning("{} places with invalid UTF-8 became U+FFFD; is all of the input text?", source.replaced());
  }
  if (held_out) held_out->finish(arguments, tokenizer, source.documents());
  kept.finish(arguments, tokenizer, source.documents());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  log::info("{} of text in {:.1f} s, {:.1f} MB/s on {} thread(s)", format_bytes(static_cast<double>(bytes)),
            seconds, static_cast<double>(bytes) / 1e6 / seconds, arguments.threads);
  return 0;
}

}  // namespace

void add_encode(CLI::App& app, Action& chosen) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("encode",
                         "Write documents as llm.c shards, the tokenizer's bos token before each: "
                         "OUTPUT/PREFIX_000000.bin and on, uint16 "
                         "for vocabularies up to 65536 and uint32 above, and OUTPUT/PREFIX.json that says "
                         "what is in them. The shards do "
                         "not depend on the number of threads, and appear when all of them are whole.");
  command->add_option("--tokenizer", arguments->tokenizer, "sentencepiece model")->required();
  command->add_option("--input", arguments->inputs, "text files, JSONL files, directories")->required();
  command->add_option("--output", arguments->output, "directory of the shards")->required();
  command->add_option("--prefix", arguments->prefix, "of the shards' names")->capture_default_str();
  command->add_option("--shard-tokens", arguments->shard_tokens, "tokens of every shard but the last")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{2147483647}));
  command->add_option("--field", arguments->field, "text field of JSONL lines")->capture_default_str();
  command->add_option("--extension", arguments->extensions, "take only these from directories: .h,.hpp")
      ->delimiter(',');
  auto* every = command->add_option("--held-out-every", arguments->held_out_every,
                                    "every n-th document goes to the prefix `validation` instead");
  every->check(CLI::Range(int64_t{2}, int64_t{1} << 40));
  command
      ->add_option("--validation-fraction", arguments->validation_fraction,
                   "this share of the documents, chosen by a fixed hash of their number, goes there")
      ->check(CLI::Range(0.0, 1.0))
      ->excludes(every);
  command->add_option("--threads", arguments->threads, "that encode; one more reads and writes")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  command->callback([arguments, &chosen] { chosen = [arguments] { return run(*arguments); }; });
}

}  // namespace sluice::tokenize

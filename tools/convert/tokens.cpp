#include "tools/convert/tokens.h"

#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <memory>

#include "core/progress.h"
#include "data/llmc_shard.h"
#include "data/megatron_dataset.h"
#include "data/megatron_writer.h"
#include "data/shard_writer.h"
#include "data/token_stream.h"

namespace sluice::convert {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPieceTokens = 1 << 20;

struct Arguments {
  std::string source;
  std::string destination;
  std::string format = "shards";
  std::string type = "auto";
  int64_t shard_tokens = 100'000'000;
  std::string index;
  std::optional<int32_t> document_start, document_end;
};

// Hands all tokens to `sink` piece by piece: (first token's number, tokens).
void for_each_piece(const TokenStream& source,
                    const std::function<void(int64_t, std::span<const int32_t>)>& sink) {
  Progress progress("converting", static_cast<double>(source.size()), "tokens");
  std::vector<int32_t> piece;
  for (int64_t first = 0; first < source.size(); first += kPieceTokens) {
    piece.resize(static_cast<size_t>(std::min(kPieceTokens, source.size() - first)));
    source.read(first, piece);
    sink(first, piece);
    progress.update(static_cast<double>(first + static_cast<int64_t>(piece.size())));
  }
}

bool is_narrow(const TokenStream& source) {
  return std::all_of(source.files().begin(), source.files().end(),
                     [](const TokenFile& file) { return file.type() == TokenType::kUint16; });
}

// The source's width where nothing else is said.
bool wants_uint16(const Arguments& arguments, const TokenStream& source) {
  return arguments.type == "auto" ? is_narrow(source) : arguments.type == "uint16";
}

void check_fits_uint16(int64_t first, std::span<const int32_t> tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    SLUICE_CHECK(tokens[i] <= std::numeric_limits<uint16_t>::max(), kData,
                 "token {} is {}, which uint16 cannot hold", first + static_cast<int64_t>(i), tokens[i]);
  }
}

// Shards cannot say where sequences and documents begin, so the index of a Megatron dataset is kept with
// them.
fs::path kept_index(const fs::path& directory, const std::string& prefix) {
  return directory / (prefix + ".megatron.idx");
}

int to_shards(const Arguments& arguments, const TokenStream& source) {
  const fs::path destination = arguments.destination;
  const fs::path directory = destination.has_parent_path() ? destination.parent_path() : ".";
  const std::string prefix = destination.filename().string();
  SLUICE_CHECK(!prefix.empty(), kUsage, "{}: name the shards too, FOLDER/PREFIX", arguments.destination);
  const bool narrow = wants_uint16(arguments, source);
  const bool has_index = source.files().size() == 1 && !source.files()[0].document_starts().empty();
  const fs::path index = kept_index(directory, prefix);
  std::error_code code;
  SLUICE_CHECK(!has_index || !fs::exists(index, code), kUsage, "{}: exists; remove it or name another prefix",
               index.string());
  ShardWriter writer(directory, prefix, narrow ? 65536 : int64_t{1} << 31, arguments.shard_tokens);
  for_each_piece(source, [&](int64_t first, std::span<const int32_t> tokens) {
    if (narrow) check_fits_uint16(first, tokens);
    writer.append(tokens);
  });
  for (const ShardWriter::Shard& shard : writer.finish())
    fmt::print("{}  {} tokens\n", (directory / shard.name).string(), shard.tokens);
  if (has_index) {
    fs::copy_file(megatron::index_path(source.files()[0].path()), index, code);
    SLUICE_CHECK(!code, kData, "{}: cannot write: {}", index.string(), code.message());
    fmt::print("{}  its index, for the way back\n", index.string());
  }
  return 0;
}

// Where one document ends and another begins, as the options or the source's own index say.
class DocumentSplitter {
 public:
  DocumentSplitter(const Arguments& arguments, const TokenStream& source, MegatronWriter& writer)
      : arguments_(arguments), source_(source), writer_(writer) {}

  void append(int64_t first, std::span<const int32_t> tokens) {
    starts_.assign(tokens.size(), 0);
    source_.mark_documents(first, starts_);
    size_t done = 0;
    const auto cut = [&](size_t end) {
      writer_.append(tokens.subspan(done, end - done));
      writer_.end_document();
      done = end;
    };
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (starts_[i] != 0 || tokens[i] == arguments_.document_start) cut(i);
      if (tokens[i] == arguments_.document_end) cut(i + 1);
    }
    writer_.append(tokens.subspan(done));
  }

 private:
  const Arguments& arguments_;
  const TokenStream& source_;
  MegatronWriter& writer_;
  std::vector<int32_t> starts_;
};

// The index that was kept when the shards were made: "shards/train_*.bin" has shards/train.megatron.idx.
fs::path find_kept_index(const TokenStream& source) {
  const fs::path& first = source.files()[0].path();
  const std::string name = first.stem().string();
  const size_t end = name.rfind('_');
  if (end == std::string::npos) return {};
  const fs::path index = kept_index(first.parent_path(), name.substr(0, end));
  std::error_code ignored;
  return fs::exists(index, ignored) ? index : fs::path();
}

int to_megatron(const Arguments& arguments, const TokenStream& source) {
  const fs::path bin = arguments.destination;
  fs::path index = arguments.index;
  const bool splits = arguments.document_start || arguments.document_end;
  if (index.empty() && !splits) index = find_kept_index(source);
  TokenType type = wants_uint16(arguments, source) ? TokenType::kUint16 : TokenType::kInt32;
  if (!index.empty()) {
    const InputFile file(index, ErrorKind::kData);
    constexpr int64_t kTypeByte = 17;
    uint8_t code = 0;
    SLUICE_CHECK(file.size() > kTypeByte, kData, "{}: is no Megatron index", index.string());
    file.read_at(kTypeByte, std::span(&code, 1));
    type = code == 8 ? TokenType::kUint16 : TokenType::kInt32;
  }
  MegatronWriter writer(bin, type);
  DocumentSplitter splitter(arguments, source, writer);
  for_each_piece(source, [&](int64_t first, std::span<const int32_t> tokens) {
    index.empty() ? splitter.append(first, tokens) : writer.append(tokens);
  });
  index.empty() ? writer.finish() : writer.finish_with_index(index);
  fmt::print("{}  {} tokens, {} documents{}\n", bin.string(), writer.tokens(),
             megatron::open(bin).document_starts().size(),
             index.empty() ? "" : fmt::format(", index from {}", index.string()));
  return 0;
}

int to_bare(const Arguments& arguments, const TokenStream& source) {
  const fs::path path = arguments.destination;
  std::error_code code;
  SLUICE_CHECK(!fs::exists(path, code), kUsage, "{}: exists; name another file or remove it", path.string());
  SLUICE_CHECK(arguments.type == "auto" || arguments.type == "uint16", kUsage,
               "--type {}: bare tokens are uint16, nothing in the file could say otherwise", arguments.type);
  if (path.has_parent_path()) create_directories(path.parent_path(), ErrorKind::kData);
  const fs::path temporary = path.string() + fmt::format(".tmp-{}", ::getpid());
  try {
    OutputFile file(temporary, ErrorKind::kData);
    std::vector<uint16_t> narrow;
    for_each_piece(source, [&](int64_t first, std::span<const int32_t> tokens) {
      check_fits_uint16(first, tokens);
      narrow.assign(tokens.begin(), tokens.end());
      file.write(std::as_bytes(std::span(narrow)));
    });
    file.sync();
    file.close();
    fs::rename(temporary, path, code);
    SLUICE_CHECK(!code, kData, "{}: cannot rename to it: {}", path.string(), code.message());
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
  fmt::print("{}  {} tokens\n", path.string(), source.size());
  return 0;
}

int convert_tokens(const Arguments& arguments) {
  const bool megatron = arguments.format == "megatron";
  SLUICE_CHECK(megatron || (arguments.index.empty() && !arguments.document_start && !arguments.document_end),
               kUsage, "--index, --document-start and --document-end go with --to megatron");
  SLUICE_CHECK(arguments.index.empty() || (!arguments.document_start && !arguments.document_end), kUsage,
               "--index says where documents begin; leave out --document-start and --document-end");
  const TokenStream source(arguments.source);
  if (megatron) return to_megatron(arguments, source);
  return arguments.format == "bare" ? to_bare(arguments, source) : to_shards(arguments, source);
}

}  // namespace

void add_tokens(CLI::App& app, std::function<int()>& action) {
  CLI::App* command = app.add_subcommand("tokens",
                                         "write token files again in another format. Megatron to shards "
                                         "keeps the index beside them, and shards to\n"
                                         "Megatron find it there, so the way back gives the same bytes. One "
                                         "piece is in memory at a time, and what\n"
                                         "is written appears whole or not at all.");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("SRC", arguments->source,
                   "token files of llm.c, Megatron or nanoGPT (bare uint16): a file, a directory or a glob\n"
                   "pattern, in the order of their names")
      ->required();
  command
      ->add_option(
          "DST", arguments->destination,
          "shards: FOLDER/PREFIX, giving PREFIX_000000.bin and so on; megatron: PREFIX.bin; bare: a file")
      ->required();
  command->add_option("--to", arguments->format, "shards (llm.c), megatron or bare (nanoGPT)")
      ->check(CLI::IsMember({"shards", "megatron", "bare"}))
      ->capture_default_str();
  command
      ->add_option(
          "--type", arguments->type,
          "of the tokens: auto (as wide as in SRC), uint16, or wide (uint32 in shards, int32 in Megatron)")
      ->check(CLI::IsMember({"auto", "uint16", "wide"}))
      ->capture_default_str();
  command->add_option("--shard-tokens", arguments->shard_tokens, "tokens of a shard")
      ->check(CLI::Range(int64_t{1}, llmc::kMaximumTokens))
      ->capture_default_str();
  command->add_option("--index", arguments->index,
                      "megatron: write these bytes as the index; default: the one kept beside the shards");
  command->add_option("--document-start", arguments->document_start,
                      "megatron: id of the token that begins a document (here: bos)");
  command->add_option("--document-end", arguments->document_end,
                      "megatron: id of the token that ends a document (Megatron-LM's --append-eod)");
  command->callback([arguments, &action] { action = [arguments] { return convert_tokens(*arguments); }; });
}

}  // namespace sluice::convert

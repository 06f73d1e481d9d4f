// Every form of directory that other programs write opens in evaluate, generate and train --init-from.
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/run_app.h"
#include "config/json.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/temporary_directory.h"
#include "variants.h"

using namespace sluice;
using test::Golden;
namespace fs = std::filesystem;

namespace {

int64_t best_of(const std::vector<float>& logits, int64_t row, int64_t vocabulary) {
  const auto first = logits.begin() + row * vocabulary;
  return std::max_element(first, first + vocabulary) - first;
}

// Mean of -log p(next token) over all but the last position of the first row.
double loss_of_first_row(const Golden& golden) {
  const auto logits = golden.expected.load("logits", DType::kF64).to_vector<double>();
  const auto tokens = golden.tokens.to_vector<int32_t>();
  const auto vocabulary = static_cast<size_t>(golden.config.vocab_size);
  double sum = 0;
  for (int64_t t = 0; t + 1 < golden.length(); ++t) {
    const auto row = std::span(logits).subspan(static_cast<size_t>(t) * vocabulary, vocabulary);
    double total = 0;
    for (const double logit : row) total += std::exp(logit);
    sum += std::log(total) - row[static_cast<size_t>(tokens[static_cast<size_t>(t) + 1])];
  }
  return sum / static_cast<double>(golden.length() - 1);
}

// Each form once for each family is enough where starting programs is what takes the time.
bool is_representative(const fs::path& folder, const test::Variant& variant) {
  return folder.filename().string().ends_with("_small") || variant.name == "sharded";
}

std::string joined(std::span<const int32_t> tokens) {
  std::string text;
  for (const int32_t token : tokens) text += (text.empty() ? "" : ",") + std::to_string(token);
  return text;
}

}  // namespace

TEST_CASE("evaluate --logits says what flash-linear-attention says, whatever form its directory has") {
  for (const fs::path& folder : test::golden_cases()) {
    const Golden golden(folder);
    const test::TemporaryDirectory directory;
    test::write_tokens(directory / "tokens.bin", golden.tokens.to_vector<int32_t>());
    for (const test::Variant& variant : test::variants()) {
      INFO(folder.filename().string() << ", " << variant.name);
      const fs::path form = directory / variant.name, npy = directory / "logits.npy";
      test::write_variant(golden, folder, variant.name, form);
      const auto run = test::run_app(
          fmt::format("evaluate --checkpoint {} --data {} --lengths {} --segment 24 --logits {} --device cpu",
                      form.string(), (directory / "tokens.bin").string(), golden.length(), npy.string()),
          directory.path());
      INFO(run.output << run.errors);
      REQUIRE(run.exit_code == 0);
      const int64_t vocabulary = golden.config.vocab_size;
      const Shape shape{golden.rows(), golden.length(), vocabulary};
      const auto values =
          test::read_npy(npy, fmt::format("({}, {}, {})", golden.rows(), golden.length(), vocabulary));
      CHECK_CLOSE(Tensor::from<float>(shape, values), golden.expected.load("logits", DType::kF32),
                  variant.tolerance, 100 * variant.tolerance);
    }
  }
}

TEST_CASE("generate continues greedily as the goldens' logits say, whatever form the directory has") {
  for (const fs::path& folder : test::golden_cases()) {
    const Golden golden(folder);
    const test::TemporaryDirectory directory;
    const auto tokens = golden.tokens.to_vector<int32_t>();
    const auto logits = golden.expected.load("logits", DType::kF32).to_vector<float>();
    const auto expected = best_of(logits, golden.length() - 1, golden.config.vocab_size);
    const auto prompt = std::span(tokens).first(static_cast<size_t>(golden.length()));
    std::string whole;  // of the form that was written
    for (const test::Variant& variant : test::variants()) {
      if (!is_representative(folder, variant)) continue;
      INFO(folder.filename().string() << ", " << variant.name);
      test::write_variant(golden, folder, variant.name, directory / variant.name);
      const auto run = test::run_app(
          fmt::format(
              "generate --checkpoint {} --prompt-tokens {} --greedy --no-stop --tokens 20 --device cpu",
              (directory / variant.name).string(), joined(prompt)),
          directory.path());
      INFO(run.output << run.errors);
      REQUIRE(run.exit_code == 0);
      if (variant.tolerance > 1e-4) continue;  // rounded weights may choose another token
      CHECK(run.output.starts_with(std::to_string(expected) + " "));
      if (whole.empty()) whole = run.output;
      CHECK(run.output == whole);
    }
  }
}

TEST_CASE("train --init-from starts where the directory's weights are") {
  for (const fs::path& folder : test::golden_cases()) {
    const Golden golden(folder);
    const test::TemporaryDirectory directory;
    auto tokens = golden.tokens.to_vector<int32_t>();
    tokens.resize(static_cast<size_t>(golden.length()));
    test::write_tokens(directory / "tokens.bin", tokens);
    const double expected = loss_of_first_row(golden);
    for (const test::Variant& variant : test::variants()) {
      if (!is_representative(folder, variant)) continue;
      INFO(folder.filename().string() << ", " << variant.name);
      const fs::path form = directory / variant.name, out = directory / (variant.name + ".run");
      test::write_variant(golden, folder, variant.name, form);
      const Json config = {{"model", read_json_file(folder / "config.json", ErrorKind::kData)},
                           {"data", {{"train", (directory / "tokens.bin").string()}}},
                           {"train",
                            {{"steps", 1},
                             {"sequence_length", golden.length() - 1},
                             {"output_dir", out.string()},
                             {"device", "cpu"}}},
                           {"checkpoint", {{"every", 0}}},
                           {"log", {{"progress", "off"}, {"tensorboard", false}}}};
      write_file_atomically(directory / "run.json", dump_json(config), ErrorKind::kData);
      const auto run = test::run_app(
          fmt::format("train --config {} --init-from {}", (directory / "run.json").string(), form.string()),
          directory.path());
      INFO(run.output << run.errors);
      REQUIRE(run.exit_code == 0);
      const std::string log = read_text_file(out / "log.jsonl", ErrorKind::kData);
      double loss = 0;
      for (size_t begin = 0; begin < log.size();) {
        const size_t end = std::min(log.find('\n', begin), log.size());
        const Json line = parse_json(log.substr(begin, end - begin), "log.jsonl", ErrorKind::kData);
        if (line.contains("loss") && loss == 0) loss = line["loss"].get<double>();
        begin = end + 1;
      }
      CHECK(std::abs(loss - expected) < variant.tolerance * expected);
    }
  }
}

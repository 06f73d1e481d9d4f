#include "train/evaluation_comparison.h"

#include <nlohmann/json.hpp>

#include "config/json.h"
#include "core/file.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

Json bucket(int64_t begin, int64_t end, double perplexity) {
  return {{"begin", begin}, {"end", end}, {"perplexity", perplexity}};
}

Json evaluation(const std::string& model_type, double far_perplexity) {
  return {{"checkpoint", "runs/" + model_type},
          {"model_type", model_type},
          {"parameters", 374000000},
          {"data", "books"},
          {"data_tokens", 5000},
          {"convention", "windows"},
          {"results",
           {{{"length", 128}, {"buckets", {bucket(0, 128, 60)}}},
            {{"length", 256}, {"buckets", {bucket(0, 128, 60), bucket(128, 256, far_perplexity)}}}}}};
}

class Files {
 public:
  std::filesystem::path write(const std::string& name, const Json& json) const {
    write_file_atomically(directory_ / name, dump_json(json), ErrorKind::kData);
    return directory_ / name;
  }

 private:
  test::TemporaryDirectory directory_;
};

}  // namespace

TEST_CASE("a comparison draws a line for each model at the longest common length") {
  const Files files;
  const auto gla = files.write("a.json", evaluation("gla", 50));
  Json other = evaluation("transformer", 1000);
  other["results"].push_back({{"length", 512}, {"buckets", Json::array()}});
  const std::string svg = compare_evaluations({gla, files.write("b.json", other)});
  CHECK_THAT(svg, test::contains("windows of 256 tokens; 5.00K tokens of books"));
  CHECK_THAT(svg, test::contains(">gla 374M<") && test::contains(">transformer 374M<"));
  CHECK_THAT(svg, test::contains("log scale"));
  CHECK_THAT(compare_evaluations({gla, gla}), test::contains(">runs/gla<"));
}

TEST_CASE("evaluations that cannot be compared are refused, with both files") {
  const Files files;
  const auto gla = files.write("a.json", evaluation("gla", 50));
  const auto message = [&](const Json& other) {
    const auto path = files.write("b.json", other);
    try {
      compare_evaluations({gla, path});
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kData);
      return std::string(error.what());
    }
    return std::string();
  };
  Json other = evaluation("transformer", 50);
  other["data"] = "news";
  CHECK_THAT(message(other), test::contains("a.json and ") &&
                                 test::contains("b.json cannot be compared: data \"books\" and \"news\""));
  other = evaluation("transformer", 50);
  other["convention"] = "strides";
  CHECK_THAT(message(other), test::contains("convention"));
  other = evaluation("transformer", 50);
  for (Json& result : other["results"]) result["length"] = result["length"].get<int64_t>() + 1;
  CHECK_THAT(message(other), test::contains("no length in common"));
  other = evaluation("transformer", 50);
  other.erase("data_tokens");
  CHECK_THAT(message(other), test::contains("b.json: not an evaluation") && test::contains("data_tokens"));
}

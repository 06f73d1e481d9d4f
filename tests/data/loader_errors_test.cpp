#include <unistd.h>

#include <filesystem>

#include "core/file.h"
#include "data/loader.h"
#include "data/token_files.h"
#include "data/token_stream.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

LoaderOptions options_for(const std::string& path, int64_t length) {
  LoaderOptions options;
  options.sources = {{path}};
  options.sequence_length = length;
  options.vocabulary_size = 65536;
  return options;
}

std::string error_of(const LoaderOptions& options) {
  return test::error_of([&] { Loader loader(options); });
}

}  // namespace

TEST_CASE("a loader refuses data it cannot train on") {
  const test::TemporaryDirectory directory;
  const std::string path = (directory / "a.bin").string();
  CHECK_THAT(error_of(options_for(path, 4)), test::contains("3 " + path + ": no such file"));
  test::write_shard16(path, test::consecutive(5));
  CHECK(error_of(options_for(path, 4)) == "no error");
  CHECK_THAT(error_of(options_for(path, 5)),
             test::contains("3 " + path +
                            ": 5 tokens in 1 file(s) are less than one sequence; sequence length 5 needs 6"));
  auto options = options_for(path, 4);
  options.vocabulary_size = 4;
  CHECK_THAT(error_of(options),
             test::contains("3 " + path + ": token 4 has id 4, but the vocabulary has 4 ids"));
}

TEST_CASE("tokens handed out are checked even where the whole file was not") {
  const test::TemporaryDirectory directory;
  const std::string path = (directory / "a.bin").string();
  test::write_shard16(path, test::consecutive(5));
  auto options = options_for(path, 4);
  options.vocabulary_size = 4;
  options.check_all_tokens = false;
  Loader loader(options);
  CHECK_THAT(test::error_of([&] { loader.next(); }),
             test::contains("3 " + path + ": id 4 among tokens 0 to 4 is outside the vocabulary of 4"));
}

TEST_CASE("a loader refuses options that make no sense") {
  const test::TemporaryDirectory directory;
  const std::string path = (directory / "a.bin").string();
  test::write_shard16(path, test::consecutive(50));
  const auto with = [&](auto&& change) {
    auto options = options_for(path, 4);
    change(options);
    return error_of(options);
  };
  CHECK(with([](LoaderOptions&) {}) == "no error");
  CHECK_THAT(with([](LoaderOptions& o) { o.sources.clear(); }), test::contains("2 no data sources"));
  CHECK_THAT(with([](LoaderOptions& o) { o.sequence_length = 0; }), test::contains("2 sequence length 0"));
  CHECK_THAT(with([](LoaderOptions& o) { o.rows = 0; }), test::contains("2 a batch of 0 sequences"));
  CHECK_THAT(with([](LoaderOptions& o) { o.rows = int64_t{1} << 60; }),
             test::contains("beyond what memory holds"));
  CHECK_THAT(with([](LoaderOptions& o) { o.prefetch = 0; }), test::contains("2 0 batches ahead"));
  CHECK_THAT(with([](LoaderOptions& o) { o.rank = 1; }), test::contains("2 rank 1 of 1"));
  CHECK_THAT(with([](LoaderOptions& o) { o.vocabulary_size = 0; }), test::contains("2 vocabulary size 0"));
  CHECK_THAT(with([](LoaderOptions& o) { o.document_token = 65536; }),
             test::contains("2 document token 65536"));
  CHECK_THAT(with([](LoaderOptions& o) { o.reset_at_documents = true; }),
             test::contains("2 resetting at documents"));
  CHECK_THAT(with([](LoaderOptions& o) { o.sources[0].weight = 0; }),
             test::contains("2 " + path + ": weight 0"));
}

TEST_CASE("a shard that shrinks under the run is an error with its name, until it is whole again") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.bin";
  test::write_shard16(path, test::consecutive(101));
  auto options = options_for(path.string(), 10);
  options.shuffle = false;
  options.prefetch = 1;
  Loader loader(options);
  loader.next();
  REQUIRE(::truncate(path.c_str(), 1024 + 2 * 55) == 0);
  std::string failure;
  for (int i = 0; i < 12 && failure.empty(); ++i) {
    const std::string message = test::error_of([&] { loader.next(); });
    if (message != "no error") failure = message;
  }
  CHECK_THAT(failure, test::contains("3 " + path.string() + ": ends at byte 1134"));
  CHECK(test::error_of([&] { loader.next(); }) == failure);  // not a hang
  // Every batch in front of the hole was handed out.
  CHECK(loader.cursor() == 5);
  // The same file, not a new one of this name: the loader has it open.
  test::write_shard16(directory / "whole.bin", test::consecutive(101));
  OutputFile(path, ErrorKind::kData).write(read_text_file(directory / "whole.bin", ErrorKind::kData));
  loader.seek(5);
  CHECK(loader.next().tokens[0] == 50);
}

TEST_CASE("a shard that is replaced or removed before it is reopened is an error with its name") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "a.bin";
  test::write_shard16(path, test::consecutive(101));
  const TokenStream stream(path.string());
  std::vector<int32_t> out(1);
  test::write_shard16(path, test::consecutive(102));
  CHECK_THAT(test::error_of([&] { stream.read(0, out); }),
             test::contains("3 " + path.string() + ": has 1228 bytes now and had 1226"));
  std::filesystem::remove(path);
  CHECK_THAT(test::error_of([&] { stream.read(0, out); }),
             test::contains("3 " + path.string() + ": cannot open"));
}

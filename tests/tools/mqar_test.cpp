// The associative-recall benchmark: its examples by definition, and the program from examples to picture.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/run_app.h"
#include "config/json.h"
#include "core/file.h"
#include "data/token_files.h"
#include "data/token_formats.h"
#include "support/catch.h"
#include "support/child_process.h"
#include "support/temporary_directory.h"
#include "tools/mqar/task.h"

using namespace sluice;
using mqar::Task;
namespace fs = std::filesystem;

TEST_CASE("an example holds pairs, and later every key once with its value behind it") {
  for (const Task task : {Task{}, Task{64, 32, 4, 0.01}, Task{16, 16, 4, 1.0}, Task{4, 4, 1, 0.5}}) {
    for (uint64_t index = 0; index < 50; ++index) {
      const auto example = mqar::make_example(task, 3, index);
      REQUIRE(static_cast<int64_t>(example.size()) == task.length);
      std::map<int32_t, int32_t> value_of;
      std::set<int32_t> values;
      for (int64_t i = 0; i < task.pairs; ++i) {
        const int32_t key = example[static_cast<size_t>(2 * i)],
                      value = example[static_cast<size_t>(2 * i + 1)];
        REQUIRE((key >= 1 && key < task.vocabulary / 2));
        REQUIRE((value >= task.vocabulary / 2 && value < task.vocabulary));
        REQUIRE(value_of.emplace(key, value).second);
        REQUIRE(values.insert(value).second);
      }
      const auto positions = mqar::queries(task, example);
      REQUIRE(static_cast<int64_t>(positions.size()) == task.pairs);
      auto rest = value_of;
      int64_t filled = 0;
      for (const int64_t position : positions) {
        const int32_t key = example[static_cast<size_t>(position)];
        REQUIRE(rest.erase(key) == 1);
        REQUIRE(example[static_cast<size_t>(position + 1)] == value_of[key]);
        REQUIRE(position % 2 == 0);
        filled += 2;
      }
      REQUIRE(std::count(example.begin(), example.end(), 0) == task.length - 2 * task.pairs - filled);
    }
  }
}

TEST_CASE("easier examples have a power of two fewer pairs, which end where all do") {
  Task task{64, 64, 12, 0.01};
  task.fewest_pairs = 3;
  std::map<int64_t, int> seen;
  for (uint64_t index = 0; index < 3000; ++index) {
    const auto example = mqar::make_example(task, 7, index);
    REQUIRE(static_cast<int64_t>(example.size()) == task.length);
    const auto positions = mqar::queries(task, example);
    const auto pairs = static_cast<int64_t>(positions.size());
    ++seen[pairs];
    const auto begin = example.begin() + 2 * (task.pairs - pairs), end = example.begin() + 2 * task.pairs;
    REQUIRE(std::count(example.begin(), begin, 0) == begin - example.begin());
    REQUIRE(std::count(begin, end, 0) == 0);
    for (const int64_t position : positions) {
      const auto key = std::find(begin, end, example[static_cast<size_t>(position)]);
      REQUIRE(key != end);
      REQUIRE(key[1] == example[static_cast<size_t>(position + 1)]);
    }
  }
  REQUIRE(seen.size() == 3);
  for (const int64_t pairs : {12, 6, 3}) CHECK(std::abs(seen[pairs] - 1000) < 100);
  task.fewest_pairs = 13;
  CHECK_THAT(test::error_of([&] { mqar::check(task); }),
             test::contains("fewest pairs 13 must be from 1 to the 12"));
}

TEST_CASE("examples are functions of seed and number, and queries crowd behind the pairs") {
  const Task task{256, 128, 8, 0.01};
  CHECK(mqar::make_example(task, 1, 5) == mqar::make_example(task, 1, 5));
  CHECK(mqar::make_example(task, 1, 5) != mqar::make_example(task, 1, 6));
  CHECK(mqar::make_example(task, 1, 5) != mqar::make_example(task, 2, 5));
  const auto mean_place = [](Task given) {
    double sum = 0;
    for (uint64_t index = 0; index < 300; ++index) {
      for (const int64_t position : mqar::queries(given, mqar::make_example(given, 0, index)))
        sum += static_cast<double>(position - 2 * given.pairs) / 2 / 300 / 8;
    }
    return sum;
  };
  Task even = task;
  even.power = 1;
  // Of 56 places: without a preference the mean is 27.5.
  CHECK(std::abs(mean_place(even) - 27.5) < 1.0);
  CHECK(mean_place(task) < 18);
  // Alone in a row of places, place i is drawn in proportion to 1 / i: the first half the time, nearly.
  const Task single{16, 10, 1, 1e-9};  // four places: 1 / (1 + 1/2 + 1/3 + 1/4) = 0.48
  int first = 0;
  for (uint64_t index = 0; index < 4000; ++index) {
    first += mqar::queries(single, mqar::make_example(single, 0, index))[0] == 2 ? 1 : 0;
  }
  CHECK(std::abs(first / 4000.0 - 0.48) < 0.03);
}

TEST_CASE("tasks that do not fit are refused") {
  for (const Task task : {Task{7, 16, 2, 1}, Task{8, 16, 4, 1}, Task{64, 15, 2, 1}, Task{64, 12, 4, 1},
                          Task{64, 16, 0, 1}, Task{64, 16, 2, 0}})
    CHECK_THAT(test::error_of([&] { mqar::check(task); }), Catch::StartsWith("2 "));
}

TEST_CASE("mqar generate, train, mqar score and mqar plot make a model that recalls, and its picture") {
  const test::TemporaryDirectory directory;
  const std::string place = directory.path().string();
  const std::string task = "--length 16 --pairs 2 --vocabulary 16";
  const auto succeeds = [&](const std::string& command) {
    const auto run = test::run_app(command, directory.path());
    INFO(command << "\n" << run.output << run.errors);
    REQUIRE(run.exit_code == 0);
    return run.output;
  };
  succeeds(fmt::format("mqar generate --output {}/data --train 20000 --test 200 {}", place, task));
  CHECK(open_token_file(directory / "data/test_000000.bin").size() == 200 * 16 + 1);
  const std::string common = fmt::format(
      " --set model.hidden_size=32 --set model.vocab_size=16 --set 'data.train={0}/data/train_*.bin' --set "
      "data.labels_from_token=8 --set data.labels_from_position=4 --set train.sequence_length=16 --set "
      "train.micro_batch_sequences=64 --set schedule.warmup_steps=20 --set train.device=cpu --set "
      "log.progress=off",
      place);
  std::string results;
  for (const auto& [mixer, steps] : {std::pair("gla", 500), std::pair("transformer", 2)}) {
    succeeds(fmt::format(
        "train --config " SLUICE_SOURCE_DIR
        "/configs/run/mqar_{0}.json {1} --set train.steps={2} --set schedule.warmup_steps=1 --set "
        "train.output_dir={3}/{0} --set optimizer.lr=1e-2 --set model.intermediate_size=64 --set "
        "model.tie_word_embeddings=false{4}",
        mixer, common, steps, place, mixer == std::string("gla") ? " --set model.use_short_conv=true" : ""));
    results += succeeds(fmt::format(
        "mqar score --name {1}_x --checkpoint {0}/{1} --data '{0}/data/test_*.bin' {2} --device cpu", place,
        mixer, task));
  }
  write_file_atomically(directory / "results.jsonl", results, ErrorKind::kData);
  INFO(results);
  const Json line = parse_json(results.substr(0, results.find('\n')), "results", ErrorKind::kData);
  CHECK(line["examples"] == 200);
  CHECK(line["accuracy"].get<double>() > 0.9);  // chance is 1/8
  const std::string table = succeeds(fmt::format(
      "mqar plot --results {0}/results.jsonl --svg {0}/mqar.svg --reference 'gla, paper=64:0.22,128:0.95'",
      place));
  CHECK_THAT(table, test::contains("gla_x          width    32"));
  const std::string svg = read_text_file(directory / "mqar.svg", ErrorKind::kData);
  for (const char* part : {"<svg ", ">gla_x</text>", ">transformer_x</text>", ">gla, paper</text>",
                           ">128</text>", "2 pairs in 16 tokens", "</svg>"})
    CHECK_THAT(svg, test::contains(part));

  // Another task than that of the data, and results that do not belong together.
  const auto other = test::run_app(fmt::format("mqar score --checkpoint {0}/gla --data '{0}/data/test_*.bin' "
                                               "--length 16 --pairs 3 --vocabulary 16 "
                                               "--device cpu",
                                               place),
                                   directory.path());
  CHECK(other.exit_code == 3);
  CHECK_THAT(other.errors, test::contains("made with other options"));
  write_file_atomically(directory / "results.jsonl", results + "{\"mixer\":\"x\"}\n", ErrorKind::kData);
  const auto bad = test::run_app(
      fmt::format("mqar plot --results {0}/results.jsonl --svg {0}/mqar.svg", place), directory.path());
  CHECK(bad.exit_code == 3);
  CHECK_THAT(bad.errors, test::contains("line 3"));
}

TEST_CASE("scripts/mqar climbs its ladder, and does nothing twice") {
  const test::TemporaryDirectory directory;
  const auto run = [&](const std::string& pairs, const std::string& rates, const std::string& jobs,
                       std::string& output) {
    std::vector<std::string> command = {SLUICE_SOURCE_DIR "/scripts/mqar"};
    for (const char* argument : {"--build",        SLUICE_BINARY_DIR,
                                 "--mixers",       "gla_conv",
                                 "--widths",       "32",
                                 "--steps",        "3",
                                 "--batch",        "2",
                                 "--ladder",       "16:2",
                                 "--ladder-steps", "2",
                                 "--length",       "32",
                                 "--vocabulary",   "32",
                                 "--train",        "40",
                                 "--test",         "20"})
      command.emplace_back(argument);
    command.insert(command.end(),
                   {"--pairs", pairs, "--rates", rates, "--jobs", jobs, "--dir", directory.path().string(),
                    "--", "--set", "train.device=cpu", "--set", "model.intermediate_size=64"});
    test::ChildProcess process(command);
    output = process.read_all();
    return process.wait();
  };
  std::string first, again, more, other;
  const int code = run("4", "1e-2", "1", first);
  INFO(first);
  REQUIRE(code == 0);
  CHECK_THAT(first, test::contains("rate 1e-2, 2 pairs in 16 tokens"));
  CHECK_THAT(first, test::contains("2 steps of 64 tokens"));  // of each rung as many tokens as of the task
  CHECK_THAT(first, test::contains("3 steps of 64 tokens"));
  CHECK_THAT(first, test::contains("gla_conv       width    32"));
  CHECK(fs::exists(directory / "mqar.svg"));
  REQUIRE(run("4", "1e-2", "1", again) == 0);
  CHECK_THAT(again, !test::contains("steps of"));
  // Side by side; one that fails ends the script.
  CHECK(run("4", "1e-2,nonsense,2e-2,3e-2", "2", more) == 1);
  CHECK_THAT(more, test::contains("a run failed"));
  CHECK_THAT(read_text_file(directory / "gla_conv_32_nonsense.txt", ErrorKind::kData),
             test::contains("optimizer.lr"));
  REQUIRE(run("4", "1e-2,2e-2,3e-2", "2", more) == 0);
  CHECK(fs::exists(directory / "gla_conv_32_2e-2/score.json"));
  CHECK(fs::exists(directory / "gla_conv_32_3e-2/score.json"));
  CHECK(run("3", "1e-2", "1", other) == 2);
  CHECK_THAT(other, test::contains("holds the task --length 32 --pairs 4"));
}

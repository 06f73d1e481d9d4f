#include "train/task_item.h"

#include "core/error.h"
#include "core/file.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

struct Fixture {
  test::TemporaryDirectory directory;

  TaskFile read(const std::string& content, std::optional<TaskType> type = std::nullopt) const {
    write_file_atomically(directory / "items.jsonl", content, ErrorKind::kData);
    return read_task_file(directory / "items.jsonl", type);
  }
  void expect(const std::string& content, const std::string& first, const std::string& second = "") const {
    CAPTURE(content);
    try {
      read(content);
      FAIL_CHECK("no error");
    } catch (const Error& error) {
      CHECK(error.exit_code() == 3);
      CHECK_THAT(error.what(),
                 test::contains("items.jsonl") && test::contains(first) && test::contains(second));
    }
  }
};

}  // namespace

TEST_CASE("a task file holds items of every type") {
  const Fixture f;
  write_file_atomically(f.directory / "hay.txt", "Much text. More of it.", ErrorKind::kData);
  const TaskFile file =
      f.read(R"({"type": "multiple_choice", "context": "c ", "choices": ["a", "b"], "answer": 1, "id": "x"})"
             "\n\n"
             R"({"type": "multiple_choice", "contexts": ["c", "d"], "choices": ["a", "a"], "answer": 0})"
             "\r\n"
             R"({"context": "Q?", "answers": ["A", "B"], "type": "contains"})"
             "\n"
             R"({"text": "a b  c"})"
             "\n"
             R"({"type": "needle", "haystack": "hay.txt", "needle": "n", "question": "q", "answer": "a",)"
             R"( "lengths": [10, 1e2], "depths": [0, 0.5], "max_tokens": 3})",
             TaskType::kLastWord);
  REQUIRE(file.items.size() == 5);
  const auto& first = std::get<MultipleChoiceItem>(file.items[0].content);
  CHECK(file.items[0].id == "x");
  CHECK(file.items[0].line == 1);
  CHECK(first.context(1) == "c ");
  CHECK(first.answer == 1);
  const auto& second = std::get<MultipleChoiceItem>(file.items[1].content);
  CHECK(file.items[1].line == 3);
  CHECK_THAT(file.place_of(file.items[1]), test::contains("items.jsonl: line 3"));
  CHECK(second.context(0) == "c");
  CHECK(second.context(1) == "d");
  const auto& contains = std::get<ContainsItem>(file.items[2].content);
  CHECK(contains.max_tokens == kDefaultAnswerTokens);
  CHECK(contains.answers == std::vector<std::string>{"A", "B"});
  CHECK(file.items[3].type() == TaskType::kLastWord);
  const auto& word = std::get<LastWordItem>(file.items[3].content);
  CHECK(word.context == "a b ");
  CHECK(word.target == " c");
  const auto& needle = std::get<NeedleItem>(file.items[4].content);
  CHECK(needle.haystack == "Much text. More of it.");
  CHECK(needle.lengths == std::vector<int64_t>{10, 100});
  CHECK(needle.depths == std::vector<double>{0, 0.5});
  CHECK(needle.max_tokens == 3);
}

TEST_CASE("what is wrong with an item is said with its line and key") {
  const Fixture f;
  const auto choice = [](const std::string& rest) { return R"({"type": "multiple_choice", )" + rest + "}"; };
  f.expect("", "holds no items");
  f.expect("\n{", "line 2: line 1, column");
  f.expect("[]", "line 1", "object");
  f.expect(R"({"text": "a b"})", "line 1", "type: is required where --task-type");
  f.expect(R"({"type": "last_words", "text": "a b"})", "type", "\"needle\"");
  f.expect("{\"type\": \"last_word\", \"text\": \"a b\"}\n{\"type\": \"last_word\"}", "line 2", "text");
  f.expect(R"({"type": "last_word", "text": "a b", "txt": 1})", "line 1", "txt");
  for (const char* text : {"word", " word", "words ", ""}) {
    f.expect(std::string(R"({"type": "last_word", "text": ")") + text + "\"}", "text: must hold a context");
  }
  f.expect(choice(R"("context": "c", "choices": ["a", "b"])"), "answer");
  f.expect(choice(R"("context": "c", "choices": ["a", "b"], "answer": 2)"), "answer", "got 2");
  f.expect(choice(R"("context": "c", "choices": ["a", "b"], "answer": -1)"), "answer", "got -1");
  f.expect(choice(R"("context": "c", "choices": ["a"], "answer": 0)"),
           "choices: must be an array of at least 2");
  f.expect(choice(R"("context": "c", "choices": ["a", ""], "answer": 0)"), "choices.1: must not be empty");
  f.expect(choice(R"("context": "c", "choices": ["a", 3], "answer": 0)"), "choices");
  f.expect(choice(R"("context": "c", "answer": 0)"), "choices: is required");
  f.expect(choice(R"("choices": ["a", "b"], "answer": 0)"), "context");
  f.expect(choice(R"("contexts": ["c"], "choices": ["a", "b"], "answer": 0)"), "1 contexts for 2 choices");
  f.expect(choice(R"("contexts": ["c", "d"], "context": "c", "choices": ["a", "b"], "answer": 0)"),
           "context: stands beside contexts");
  f.expect(R"({"type": "contains", "context": "", "answers": []})", "context: must not be empty",
           "answers: must be an array of at least 1 string");
  f.expect(R"({"type": "contains", "context": "c", "answers": ["a", ""], "max_tokens": 0})",
           "answers.1: must not be empty", "max_tokens");
  const auto needle = [](const std::string& haystack, const std::string& rest) {
    return R"({"type": "needle", "haystack": ")" + haystack +
           R"(", "needle": "n", "question": "q", "answer": "a", )" + rest + "}";
  };
  f.expect(needle("a b", R"("lengths": [0, 1.5, "x"], "depths": [2])"), "lengths.0: must be an integer",
           "depths.0: must be a number from 0 to 1, got 2");
  f.expect(needle("a b", R"("lengths": [5, 5], "depths": [0])"), "lengths: names a number twice");
  f.expect(needle("a b", R"("lengths": [], "depths": [0])"), "lengths: must be an array of numbers");
  f.expect(needle("a b", R"("lengths": [5])"), "depths: is required");
  f.expect(needle("none.txt", R"("lengths": [5], "depths": [0])"), "haystack: holds no white space",
           "none.txt");
  CHECK_THROWS_WITH(read_task_file(f.directory / "missing.jsonl", std::nullopt),
                    test::contains("missing.jsonl"));
  CHECK_THROWS_WITH(parse_task_type("cloze"), test::contains("cloze") && test::contains("last_word"));
}
